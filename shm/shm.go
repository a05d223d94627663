// Package shm is the root of the room that owns shared memory. It is the only
// room that imports unsafe or makes raw memory system calls; everyone above it
// sees bounds-checked views. Its packages import nothing of ours but the
// constants generated from protocols/system/v1.
//
// From the bottom up:
//
//	layout    where everything lies, one table for each part
//	arena     blocks and references to them
//	epoch     change counters, doorbells, the waiting ladder
//	ring      descriptor rings between one producer and one consumer
//	registry  the module table
//	state     named blocks that outlive their process
//	segment   the memfds that hold all of it
package shm
