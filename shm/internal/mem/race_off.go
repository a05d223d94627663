//go:build !race

package mem

func acquired(uint64) {}
func released(uint64) {}
