package dispatch

import (
	"reflect"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
	"inos/shm/arena"
)

// refit makes a job fit for an instance of another version than the one that it was
// checked for. What a caller was promised must still hold, or the job is refused with
// a reason. The caller holds unit.mu.
func (i *Instance) refit(j *Job) *wire.Error {
	if i.m == j.cap.m || i.digest != "" && i.digest == j.cap.digest {
		return nil
	}
	name := j.cap.spec.Name
	c := &i.m.Capabilities[i.index[name]]
	switch was := &j.cap.spec; {
	case was.Idempotent && !c.Idempotent && j.attempts > 0:
		return wire.NewError(base.Code_outcomeUnknown, "look whether it took effect, then run it again if it should",
			"%s was started before %s was replaced, and must not be started twice any more", name, i.unit.module)
	case was.Idempotent && !c.Idempotent && j.begun:
		return changed(j, base.Code_unavailable, "must not be started twice any more")
	case j.in.more && !c.Streams:
		return changed(j, base.Code_unavailable, "does not stream any more")
	case c.MaxInput > 0 && j.inBytes.Load() > c.MaxInput:
		return changed(j, base.Code_invalidArgument, "takes less input now")
	}
	params, err := wire.CheckParams(c.Params, j.params)
	if err != nil {
		return wire.NewError(base.Code_invalidArgument, "see inos plugin info "+i.unit.module, "%s was replaced while the job waited: %v", name, err)
	}
	if len(params) == len(j.params) && (len(params) == 0 || reflect.DeepEqual(params, j.params)) {
		return nil
	}
	head := j.head
	j.params, j.digest, j.head = params, jobDigest{}, arena.Ref{}
	if err := j.writeHead(); err != nil {
		j.head = head // for its release
		return wire.AsError(err)
	}
	if !head.IsZero() {
		freeBlock(j.unit.arena, head)
	}
	return nil
}

// changed refuses a job that a new version cannot take as the old one would have.
func changed(j *Job, code base.Code, how string) *wire.Error {
	return wire.NewError(code, "run it again", "%s was replaced while the job waited: %s %s", j.unit.module, j.cap.spec.Name, how)
}
