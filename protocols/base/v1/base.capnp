@0xba5e1905f1a0b1c1;
# What every message of INOS may carry: who sent it, what went wrong, and
# payloads whose type is named rather than known.
#
# Compatibility: fields are only ever added, at the next free ordinal. An
# ordinal is never renumbered, retyped or reused. Enums only grow at the end.

using Go = import "/go.capnp";
$Go.package("base");
$Go.import("inos/protocols/base/v1");

struct Envelope {
  # A payload on its way between nodes or services.
  id @0 :Text;            # unique per message, chosen by the sender
  type @1 :Text;          # "service:action:v1"
  timestamp @2 :Int64;    # Unix time, nanoseconds
  version @3 :UInt32;     # schema version of the payload
  metadata @4 :Metadata;
  payload @5 :Payload;
}

struct Metadata {
  # Context that follows a job from end to end.
  userId @0 :Text;
  deviceId @1 :Text;
  moduleId @2 :Text;      # plugin that caused the message, empty for an operator
  traceParent @3 :Text;   # W3C trace context
  traceState @4 :Text;
  creditLedgerId @5 :Text;
  parentJob @6 :UInt64;   # job on whose behalf this one runs, 0 if none
}

struct Error {
  # A failure that a person or a program can act on.
  code @0 :Code;
  message @1 :Text;       # what happened and where
  hint @2 :Text;          # what to do next
  temporary @3 :Bool;     # the same call may succeed later
  context @4 :List(KeyValue);
}

struct KeyValue {
  key @0 :Text;
  value @1 :Text;
}

enum Code {
  unknown @0;
  invalidArgument @1;
  notFound @2;
  alreadyExists @3;
  permissionDenied @4;
  resourceExhausted @5;   # a queue, the arena, a quota is full
  budgetExceeded @6;
  deadlineExceeded @7;
  canceled @8;
  unavailable @9;         # no instance serves it right now
  notSupported @10;
  dataLoss @11;           # stored or received bytes failed verification
  internal @12;
  outcomeUnknown @13;     # started, never finished, must not be rerun
  quarantined @14;
}

struct Payload {
  typeId @0 :Text;
  data @1 :Data;
}
