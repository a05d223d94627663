// Package compute holds the messages about a job: what is asked, what came of it,
// how far it is. All but this file is generated from job.capnp. Only
// plugins/sdk/wire reads and writes the messages; everyone may use the enums.
package compute
