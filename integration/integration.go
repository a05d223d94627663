// Package integration holds the tests of the whole node: real hosts, real plugin
// processes, real kills. Nothing imports it.
package integration
