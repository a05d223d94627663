@0xba5e1905f1a0b1c6;
# A job: what is asked, what came of it, how far it is.

using Go = import "/go.capnp";
using Base = import "/protocols/base/v1/base.capnp";
$Go.package("compute");
$Go.import("inos/protocols/compute/v1");

struct JobRequest {
  jobId @0 :UInt64;
  capability @1 :Text;
  params @2 :List(Param);
  budget @3 :UInt64;          # micro-credits, 0 = without bound
  priority @4 :Priority;
  deadline @5 :Int64;         # CLOCK_MONOTONIC of this boot, ns; 0 = none
  idempotencyKey @6 :Text;
  inputBytes @7 :UInt64;      # when known, for streamed inputs too
  metadata @8 :Base.Metadata;
}

struct Param {
  # A named, typed value. The plugin's manifest says which it takes.
  name @0 :Text;
  value :union {
    text @1 :Text;
    bool @2 :Bool;
    int @3 :Int64;
    uint @4 :UInt64;
    float @5 :Float64;
    data @6 :Data;
  }
}

enum Priority {
  normal @0;
  low @1;
  high @2;
  critical @3;
  emergency @4;
}

struct JobResult {
  jobId @0 :UInt64;
  status @1 :Status;
  cost @2 :UInt64;
  error @3 :Base.Error;       # absent on success
  metrics @4 :ExecutionMetrics;
  outputType @5 :Text;
  retryable @6 :Bool;
}

enum Status {
  success @0;
  failed @1;
  budgetExceeded @2;
  timeout @3;
  invalidParams @4;
  canceled @5;
  notSupported @6;
  outOfMemory @7;             # the arena was full
  panicked @8;                # the handler crashed, the plugin lives
  outcomeUnknown @9;          # the plugin died while it ran
  quarantined @10;
  rejected @11;               # never started
}

struct ExecutionMetrics {
  wallTimeNs @0 :UInt64;
  cpuTimeNs @1 :UInt64;
  gpuTimeNs @2 :UInt64;
  memoryPeakBytes @3 :UInt64;
  inputBytes @4 :UInt64;
  outputBytes @5 :UInt64;
  queueTimeNs @6 :UInt64;
}

struct Progress {
  jobId @0 :UInt64;
  done @1 :UInt64;
  total @2 :UInt64;           # 0 = not known
  message @3 :Text;
}
