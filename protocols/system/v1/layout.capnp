@0xba5e1905f1a0b1c2;
# The numbers of the shared segment and of the rings. This file is their only
# source: shm reads the generated constants, docs/plugin-abi.md explains them.

using Go = import "/go.capnp";
$Go.package("system");
$Go.import("inos/protocols/system/v1");

# ---- versions ---------------------------------------------------------------

const abiMajor :UInt16 = 1;   # differs: the plugin is refused
const abiMinor :UInt16 = 1;   # the host serves every minor up to its own

const segmentMagic :UInt64 = 0x494E4F5353454731;  # "INOSSEG1" read as a number
const linkMagic :UInt64 = 0x494E4F534C4E4B31;     # "INOSLNK1"

# ---- units ------------------------------------------------------------------

const cacheLine :UInt32 = 64;
const pageSize :UInt32 = 4096;
const headerSize :UInt32 = 4096;

# ---- segment sizes ----------------------------------------------------------

const segmentMinimum :UInt64 = 4194304;     # 4 MiB
const segmentDefault :UInt64 = 268435456;   # 256 MiB

# ---- control part -----------------------------------------------------------

const epochCount :UInt32 = 256;
const epochStride :UInt32 = 64;
const epochParkOffset :UInt32 = 8;   # u32 futex word, beside the u64 counter

const registrySlots :UInt32 = 64;
const registryEntrySize :UInt32 = 96;
const registrySignature :UInt64 = 0x494E4F5352454749;  # "INOSREGI" read as a number
const overflowPages :UInt32 = 24;        # 42 entries each: 1,072 modules in all
const overflowEntries :UInt32 = 42;
const overflowHeader :UInt32 = 64;
const capabilityEntrySize :UInt32 = 36;
const capabilityEntries :UInt32 = 4096;
const dependencyEntrySize :UInt32 = 16;
const dependencyEntries :UInt32 = 2048;

# ---- rings ------------------------------------------------------------------

const descriptorSize :UInt32 = 64;
const ringHeader :UInt32 = 128;          # consumer line, producer line
const ringEntriesDefault :UInt32 = 1024;
const ringEntriesMinimum :UInt32 = 16;
const ringEntriesMaximum :UInt32 = 65536;

# ---- arenas -----------------------------------------------------------------

const arenaNone :UInt16 = 0;             # a reference to nothing
const arenaCommons :UInt16 = 1;
const arenaFirstPrivate :UInt16 = 2;

# ---- the channel ------------------------------------------------------------

const channelFd :UInt32 = 3;             # a socket on which the host passes the memfds
const channelEnv :Text = "INOS_CHANNEL_FD";

struct Ref {
  # A block of an arena. Worth nothing until the host has checked it.
  arena @0 :UInt16;
  slot @1 :UInt32;
  generation @2 :UInt32;
  offset @3 :UInt64;
  length @4 :UInt64;
}

enum HostEpoch {
  # Index of a counter in the control part.
  any @0;          # moves whenever any other host epoch moves
  ready @1;        # the node serves jobs
  registry @2;     # the module table changed
  policy @3;       # grants changed
  shutdown @4;     # the node is stopping
  panic @5;        # the node is failing
  health @6;
  storage @7;
  sensor @8;
  actor @9;
  economy @10;
  learning @11;
  mesh @12;
}

enum LinkEpoch {
  # Index of a counter in the part that a plugin shares with the host.
  any @0;
  heartbeat @1;    # the plugin's service loop is alive
  state @2;        # a state block was committed
  metrics @3;
}

enum DescriptorKind {
  none @0;
  # host -> plugin, submission ring
  head @1;         # reference to a JobRequest, for the next submit of the same job
  submit @2;       # run: aux = capability index, args = deadline, budget
  piece @3;        # next piece of a streamed input
  cancel @4;       # stop the job: status says why
  ack @5;          # the host consumed aux pieces of the streamed output
  # plugin -> host, completion ring
  done @6;         # finished: status, output reference, args = cost, cpu ns
  resultHead @7;   # reference to a JobResult, for the next done of the same job
  progress @8;     # args = done, total
  output @9;       # next piece of a streamed output
  consumed @10;    # the plugin no longer reads aux pieces of the streamed input
  leaseRequest @11;# length bytes wanted, aux = the plugin's request number
  release @12;     # reference given back unused
  # host -> plugin, credit ring
  lease @13;       # a block the plugin may write; aux = request number, 0 unasked
  leaseDenied @14; # aux = request number, status = why
}

enum DescriptorFlag {
  # Bit numbers of the descriptor's flags.
  hasHead @0;      # a head descriptor with the same job id came just before
  streamIn @1;     # the input follows in pieces
  last @2;         # no piece follows
}
