@0xba5e1905f1a0b1c3;
# What a plugin says of itself when the host asks it to describe itself.

using Go = import "/go.capnp";
$Go.package("system");
$Go.import("inos/protocols/system/v1");

struct Manifest {
  name @0 :Text;                       # [a-z][a-z0-9-]*, at most 31 bytes
  version @1 :Version;
  description @2 :Text;
  abiMajor @3 :UInt16;
  abiMinor @4 :UInt16;
  layoutHash @5 :UInt64;               # of the layout the plugin was built with
  capabilities @6 :List(Capability);
  dependencies @7 :List(Dependency);
  resources @8 :Resources;
  needs @9 :List(Grant);
  cost @10 :CostModel;
  concurrency @11 :UInt32;             # jobs it handles at once
  state @12 :List(StateSpec);
  license @13 :Text;
  selfTest @14 :Text;                  # capability that takes nothing and must succeed
}

struct Version {
  major @0 :UInt16;
  minor @1 :UInt16;
  patch @2 :UInt16;
}

struct Capability {
  name @0 :Text;                       # "storage.put", at most 31 bytes
  description @1 :Text;
  params @2 :List(ParamSpec);
  maxInput @3 :UInt64;                 # bytes, 0 = what one block holds; without bound when it streams
  maxOutput @4 :UInt64;                # bytes, likewise
  timeoutNs @5 :Int64;                 # 0 = the caller's deadline alone
  idempotent @6 :Bool;                 # may be started again after a crash
  streams @7 :Bool;                    # takes and gives pieces of any total length
  needsGpu @8 :Bool;
  minMemory @9 :UInt64;                # bytes
  inputType @10 :Text;                 # media type, informative
  outputType @11 :Text;
}

struct ParamSpec {
  name @0 :Text;
  kind @1 :ParamKind;
  required @2 :Bool;
  description @3 :Text;
  default @4 :Text;                    # in the text form a person would type
  choices @5 :List(Text);              # empty: any value of the kind
}

enum ParamKind {
  text @0;
  bool @1;
  int @2;
  uint @3;
  float @4;
  data @5;
}

struct Dependency {
  module @0 :Text;
  min @1 :Version;                     # inclusive
  max @2 :Version;                     # inclusive, all 65535 = any
  optional @3 :Bool;
  alternatives @4 :List(Text);
}

struct Resources {
  cpuCores @0 :UInt16;
  memory @1 :UInt64;                   # bytes of its own
  arena @2 :UInt64;                    # bytes of a private arena it wants
  gpuMemory @3 :UInt64;
  ioIntensive @4 :Bool;
  networkIntensive @5 :Bool;
  exclusive @6 :List(Text);            # devices or ports that only one process may hold
}

struct CostModel {
  # Micro-credits.
  base @0 :UInt64;
  perMb @1 :UInt64;                    # for each MiB begun of input and output
  perSecond @2 :UInt64;                # for each second begun of run time
}

struct StateSpec {
  name @0 :Text;
  schema @1 :UInt32;
  maxBytes @2 :UInt64;
  adopts @3 :List(UInt32);             # schemas of earlier versions that it takes over; since ABI 1.1
}

enum Grant {
  # A permission to make one kind of syscall. Deny by default.
  lease @0;
  fetchChunk @1;
  storeChunk @2;
  sendMessage @3;
  hostCall @4;
  spawn @5;
  log @6;
  progress @7;
  metric @8;
  state @9;
}
