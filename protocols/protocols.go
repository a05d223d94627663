// Package protocols is the root of the contracts: Cap'n Proto schemas and the
// Go generated from them, one folder for each domain and version. Nothing here
// holds logic, save for package golden, which tests use to keep the bytes of every
// message on file. Everyone may import it; it imports nothing of ours.
package protocols

//go:generate ./generate.sh
