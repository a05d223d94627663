@0xba5e1905f1a0b1c4;
# What a plugin may ask of the host over the control connection. Bulk data is
# never inside: it is named by reference.

using Go = import "/go.capnp";
using Base = import "/protocols/base/v1/base.capnp";
using Manifest = import "/protocols/system/v1/manifest.capnp";
using Layout = import "/protocols/system/v1/layout.capnp";
using Job = import "/protocols/compute/v1/job.capnp";
$Go.package("system");
$Go.import("inos/protocols/system/v1");

struct Syscall {
  callId @0 :UInt64;        # chosen by the caller, comes back in the answer
  job @1 :UInt64;           # job being served, 0 if none
  metadata @2 :Base.Metadata;
  body :union {
    noop @3 :Void;
    lease @4 :UInt64;                   # bytes
    free @5 :Layout.Ref;
    fetchChunk @6 :FetchChunk;
    storeChunk @7 :StoreChunk;
    sendMessage @8 :SendMessage;
    hostCall @9 :HostCall;
    spawn @10 :UInt32;                  # more instances of the caller
    stop @11 :UInt32;                   # instance number, one of the caller's own
    log @12 :LogRecord;
    progress @13 :Job.Progress;
    metric @14 :Metric;
    state @15 :OpenState;
  }
}

struct FetchChunk {
  hash @0 :Data;            # 32 bytes, BLAKE3 of the plaintext
  priority @1 :UInt8;
}

struct StoreChunk {
  data @0 :Layout.Ref;
  ttlSeconds @1 :UInt32;    # 0 = until deleted
}

struct SendMessage {
  targetId @0 :Text;
  payload @1 :Data;
  priority @2 :UInt8;
}

struct HostCall {
  capability @0 :Text;
  params @1 :List(Job.Param);
  input @2 :Layout.Ref;
  deadline @3 :Int64;       # CLOCK_MONOTONIC, ns; 0 = the calling job's
  budget @4 :UInt64;        # out of the calling job's
}

struct LogRecord {
  level @0 :Level;
  message @1 :Text;
  fields @2 :List(Base.KeyValue);
}

enum Level {
  trace @0;
  debug @1;
  info @2;
  warn @3;
  error @4;
}

struct Metric {
  name @0 :Text;
  value @1 :Float64;
  kind @2 :MetricKind;
}

enum MetricKind {
  counter @0;
  gauge @1;
}

struct OpenState {
  name @0 :Text;
  schema @1 :UInt32;
  bytes @2 :UInt64;
}

struct Answer {
  callId @0 :UInt64;
  error @1 :Base.Error;     # absent when it succeeded
  result :union {
    none @2 :Void;
    ref @3 :Layout.Ref;                        # lease, fetchChunk
    storeChunk @4 :StoredChunk;
    sendMessage @5 :Delivery;
    hostCall @6 :HostCallResult;
    instance @7 :UInt32;                # spawn
    state @8 :StateGrant;
  }
}

struct StoredChunk {
  hash @0 :Data;
  replicas @1 :UInt16;
}

struct Delivery {
  delivered @0 :Bool;
  latencyNs @1 :UInt64;
}

struct HostCallResult {
  status @0 :Job.Status;
  output @1 :Layout.Ref;
  cost @2 :UInt64;
}

struct StateGrant {
  block @0 :Layout.Ref;            # header line, then the two halves
  schema @1 :UInt32;        # of what is committed in it
  fresh @2 :Bool;           # nothing was committed yet
}
