// Package base holds what every message may carry: who sent it, what went wrong,
// and payloads whose type is named rather than known. All but this file is
// generated from base.capnp. Only plugins/sdk/wire reads and writes the messages;
// everyone may use the codes.
package base
