//go:build !amd64

package mem

import "runtime"

// Pause gives the scheduler a chance where there is no spin hint to give.
func Pause(n uint32) {
	for ; n > 0; n-- {
		runtime.Gosched()
	}
}
