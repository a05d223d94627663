// Package system holds the numbers of the shared segment and the messages between
// host and plugin: manifest, life cycle, syscalls. All but this file is generated
// from the schemas beside it. Only plugins/sdk/wire reads and writes the messages;
// everyone may use the constants and enums.
package system
