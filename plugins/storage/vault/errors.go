package vault

import "errors"

// What can go wrong, to be told apart with errors.Is. The text of an error says
// where it happened and what to do next.
var (
	// ErrCorrupt says that stored data is damaged or missing.
	ErrCorrupt = errors.New("stored data is damaged")
	// ErrWrongKey says that a vault was made with another key or passphrase.
	ErrWrongKey = errors.New("wrong key")
	// ErrNotFound says that there is no such object or chunk.
	ErrNotFound = errors.New("not found")
	// ErrLocked says that another process has the vault open, or this one already
	// has.
	ErrLocked = errors.New("vault is in use")
	// ErrName says that a text cannot name an object.
	ErrName = errors.New("not a name for an object")
	// ErrTooLarge says that an object or chunk exceeds what a vault takes.
	ErrTooLarge = errors.New("too large for the vault")
	// ErrClosed says that the vault or reader was closed.
	ErrClosed = errors.New("vault is closed")
	// ErrReadOnly says that the vault takes no changes after a failure of the disk.
	ErrReadOnly = errors.New("vault takes no changes")
	// ErrKey says that a key or key file cannot be used.
	ErrKey = errors.New("unusable key")
	// ErrOptions says that a vault was opened with options out of range.
	ErrOptions = errors.New("vault options")
	// ErrDamaged says that unused chunks cannot be told from used ones because a
	// manifest is damaged.
	ErrDamaged = errors.New("vault has damaged manifests")
)
