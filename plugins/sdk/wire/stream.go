package wire

// StreamWindow is how many pieces of one stream may be under way in each
// direction before the sender waits.
const StreamWindow = 4

// Bounds of one piece of a stream.
const (
	maxPiece = 1 << 20
	minPiece = 16 << 10
)

// PieceBytes returns the size of the pieces that streams through an arena of the
// given size are cut into: 1 MiB, since larger ones are no faster to hand over,
// or as much less as lets two streams have full windows in both directions.
func PieceBytes(arena uint64) uint64 {
	n := uint64(maxPiece)
	for n > minPiece && n*StreamWindow*4 > arena {
		n /= 2
	}
	return n
}
