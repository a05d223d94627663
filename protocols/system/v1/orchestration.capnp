@0xba5e1905f1a0b1c5;
# Life of a plugin process, as the host commands it.

using Go = import "/go.capnp";
using Base = import "/protocols/base/v1/base.capnp";
using Manifest = import "/protocols/system/v1/manifest.capnp";
$Go.package("system");
$Go.import("inos/protocols/system/v1");

struct LifecycleCommand {
  id @0 :UInt64;
  timestamp @1 :Int64;                 # Unix time, nanoseconds
  timeoutNs @2 :Int64;                 # how long it may take, 0 = no bound
  body :union {
    describe @3 :Void;
    configure @4 :Configuration;
    start @5 :Void;
    health @6 :Void;
    freeze @7 :Void;                   # finish running jobs, commit state, take no more, hold still
    adopt @8 :Adoption;                # take over the predecessor's state blocks
    drain @9 :Void;                    # finish what was taken, then idle
    stop @10 :Void;
    thaw @11 :Void;                    # go on after freeze; since ABI 1.1
  }
}

struct Configuration {
  instance @0 :UInt32;                 # unique for the life of the node
  incarnation @1 :UInt32;              # how often this module has been started
  nodeId @2 :Data;
  grants @3 :List(Manifest.Grant);
  linkBytes @4 :UInt64;                # of the three memfds passed on the channel
  controlBytes @5 :UInt64;
  arenaBytes @6 :UInt64;
  arena @7 :UInt16;
  logLevel @8 :Text;
  dataDir @9 :Text;                    # a folder of the plugin's own
  settings @10 :List(Base.KeyValue);   # the operator's, from the policy
  broker @11 :UInt32;                  # go-plugin broker id of the syscall service
}

struct Adoption {
  fromVersion @0 :Manifest.Version;
  fromInstance @1 :UInt32;
}

struct LifecycleReply {
  id @0 :UInt64;
  error @1 :Base.Error;
  body :union {
    none @2 :Void;
    manifest @3 :Manifest.Manifest;
    health @4 :HealthHeartbeat;
  }
}

struct HealthHeartbeat {
  status @0 :HealthStatus;
  memoryUsage @1 :UInt64;              # bytes resident
  cpuTimeNs @2 :Int64;
  running @3 :UInt32;                  # jobs in handlers
  isCongested @4 :Bool;
  needsMoreMemory @5 :Bool;
  detail @6 :Text;
}

enum HealthStatus {
  starting @0;
  healthy @1;
  degraded @2;
  draining @3;
  zombie @4;
}
