package supervisor

import (
	"crypto/rand"
	"errors"
)

// fence holds together what belongs to one plugin: its control group, and the
// host's watch where that does not do everything.
type fence struct {
	in     Enforcement // of the limits that are set
	limits Limits
	group  *group  // nil without control groups
	census *census // nil if nothing is to be watched
	herd   *herd
	marker string // for the environment, empty if nothing is to be watched
}

// newFence makes the control group of a plugin that is about to start.
func (s *Supervisor) newFence(name string, l Limits) (*fence, error) {
	g, err := s.tree.newGroup(name, l)
	if err != nil {
		return nil, err
	}
	f := &fence{in: s.enforcement.of(l), limits: l, group: g}
	if s.census != nil && s.enforcement.watches(l) {
		f.census, f.marker = s.census, markerEnv+"="+rand.Text()
	}
	return f, nil
}

// hold begins to watch a process that has been forked. over is called, with no
// lock held, when it is above a limit that the host watches; it may be called
// more than once.
func (f *fence) hold(pid int, over func(limit, why string)) {
	if f.census == nil {
		return
	}
	watched := Limits{}
	if f.in.Memory == Watched {
		watched.Memory = f.limits.Memory
	}
	if f.in.Processes == Watched {
		watched.Processes = f.limits.Processes
	}
	f.herd = &herd{leader: pid, marker: f.marker, limits: watched, over: over}
	f.census.join(f.herd)
}

// kill sends every process of the plugin SIGKILL and returns those it knows of,
// without waiting for their end.
func (f *fence) kill() []stat {
	list := f.group.members()
	f.group.kill()
	if f.herd != nil {
		list = append(list, f.census.kill(f.herd)...)
	}
	return list
}

// outOfMemory names the limit for which the kernel ended a process that was
// killed by nobody else, empty if it was something else.
func (f *fence) outOfMemory() string {
	switch killed, own := f.group.outOfMemory(f.limits.Memory); {
	case own:
		return f.limits.memoryLimit()
	case killed:
		return "the lack of memory of the machine, or of the container around the node"
	}
	return ""
}

// open ends what is left when the plugin's process has ended, and takes back the
// control group. It returns the processes that it killed.
func (f *fence) open() ([]stat, error) {
	list, err := f.group.remove()
	if f.herd == nil {
		return list, err
	}
	more, err2 := f.census.leave(f.herd)
	return append(list, more...), errors.Join(err, err2)
}
