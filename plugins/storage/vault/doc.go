// Package vault keeps named objects and loose chunks in a folder: compressed,
// encrypted, content-addressed, and safe against crashes. The storage plugin is
// built on it; so may be any program. It knows nothing of jobs or shared memory,
// never talks to the network, never writes a log and never repairs or writes over
// what it finds damaged unless the caller puts or deletes that very object.
//
// # On the way in
//
// A stream is cut into chunks of one size. Each chunk is compressed (kept as it
// is when that does not make it smaller), sealed with XChaCha20-Poly1305 under a
// random nonce, and written to a file named after its content. The list of chunks
// is sealed in turn into a manifest, the one file that makes the object exist.
//
// # The folder
//
//	header           how the key is made, and the vault's own key sealed with it
//	header.copy      the same bytes again
//	lock             held (flock) by the one process that has the vault open
//	objects/ab/ab..  a manifest; named BLAKE3-keyed(name key, object name)
//	chunks/ab/ab..   a chunk; named BLAKE3-keyed(id key, BLAKE3(plaintext))
//	pins/ab/ab..     empty; says that the chunk was stored by itself
//	tmp/             files being written; emptied when the vault is opened
//
// All numbers are little-endian. A chunk file is
//
//	 0  8  "INOSCHK1"
//	 8  1  compression algorithm       9  3  zero
//	12  4  length of the plaintext    16 24  nonce
//	40  n  sealed bytes, tag included; authenticated with them: bytes 0-39, chunk id
//
// and a manifest file
//
//	 0  8  "INOSOBJ1"                  8 24  nonce
//	32  n  sealed bytes, tag included; authenticated with them: bytes 0-31, object id
//
// with, inside,
//
//	u16 length of the name, name, u8 compression, u8 zero, i64 created, i64 modified
//	(Unix ns), u64 size, BLAKE3 of the whole content, u32 number of chunks, and for
//	each: id, u32 length of the plaintext, u32 length of its file
//
// # Identity of a chunk
//
// Both names are keyed hashes, and the keys come from a random key of each vault.
// So equal chunks are stored once within a vault, but two vaults with the same
// content share no name, and who can only read the folder cannot test whether a
// known file is in it. The id is made from the plain BLAKE3 hash, not from the
// content, so a chunk can also be found by that public hash, as the mesh asks for
// it, and one scheme serves both.
//
// Not hidden are the number of objects and chunks, the compressed length of each
// chunk, and when files were written. Not detected is a folder put back as a whole,
// or one manifest put back, to an earlier state: that takes a memory outside of it.
//
// # Durability
//
// When Put, PutChunk or Delete has returned without error, the change survives
// loss of power. Files are written under tmp, synced, renamed into place, and the
// folders they were renamed into are synced: chunks before the manifest, the
// manifest before the answer. A Put cut short leaves the object as it was. When
// the disk fails at the moment a manifest is put in place or removed, nobody can
// tell what will be found there after a crash; the vault then refuses to write
// (ErrReadOnly) until it is opened again.
//
// # Memory
//
// The vault holds about 300 bytes for each object and 50 for each chunk. Beside
// that, Workers buffers of one chunk serve all operations together, a Put holds
// a buffer of one chunk for each chunk in work and one more, and an open Reader
// up to readAhead.
package vault
