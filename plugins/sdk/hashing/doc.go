// Package hashing holds the hash functions that plugins and the storage vault
// use: BLAKE3 (plain, keyed, salted, for deriving keys, streaming), SHA-256, and
// a Merkle tree over the chunks of a stream with proofs of inclusion.
//
// Anyone may import it. It never reads files, never keeps keys and never starts
// goroutines.
//
// BLAKE3 is specified in "BLAKE3: one function, fast everywhere"
// (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), SHA-256 in FIPS 180-4, and
// the shape of the tree in RFC 6962 section 2.1.
package hashing
