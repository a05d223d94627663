package mem

//go:noescape
func pause(n uint32)

// Pause tells the processor n times that the caller is spinning, n > 0. It never
// gives up the CPU, so use it only for some tens of rounds.
func Pause(n uint32) { pause(n) }
