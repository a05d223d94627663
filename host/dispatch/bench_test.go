package dispatch

import (
	"testing"
	"time"

	"inos/host/dispatch/puppet"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
	"inos/shm/ring"
)

// BenchmarkRoundTrip is one job at a time from Submit to its output, through both
// rings to a puppet that answers at once with a block granted ahead.
func BenchmarkRoundTrip(b *testing.B) {
	for name, in := range map[string][]byte{"empty": nil, "4KiB": bytesOf(4096)} {
		b.Run(name, func(b *testing.B) {
			s := puppet.NewStage(b, 0)
			e := New(Options{Arena: s.Arena})
			p := s.Puppet(1, s.Commons())
			i, err := e.Attach(Attachment{ID: 1, Manifest: manifest("test", 4, echo), Link: p.Link, Arena: s.Commons()})
			if err != nil {
				b.Fatal(err)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() { defer close(stopped); answer(p, stop) }()
			b.ReportAllocs()
			for b.Loop() {
				j, err := e.Submit(b.Context(), Request{Capability: "test.echo", Input: inputOf(in)})
				if err != nil {
					b.Fatal(err)
				}
				piece, err := j.Next(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				piece.Release()
				j.Close()
			}
			close(stop)
			p.PluginBell.Interrupt()
			<-stopped
			e.Close()
			i.Detach(errKilled)
			p.Close()
		})
	}
}

// answer ends every job with a block granted ahead until it is stopped.
func answer(p *puppet.Puppet, stop <-chan struct{}) {
	ready := func() bool { return p.Submissions.Ready() || p.Credits.Ready() }
	var d, done ring.Descriptor
	done.Kind, done.Status = system.DescriptorKind_done, uint16(compute.Status_success)
	for {
		select {
		case <-stop:
			return
		default:
		}
		p.PluginBell.Wait(ready, time.Now().Add(time.Second))
		for ok, _ := p.Credits.Pop(&d); ok; ok, _ = p.Credits.Pop(&d) {
			p.Ahead = append(p.Ahead, d.Ref)
		}
		for ok, _ := p.Submissions.Pop(&d); ok; ok, _ = p.Submissions.Pop(&d) {
			if d.Kind != system.DescriptorKind_submit {
				continue
			}
			last := len(p.Ahead) - 1
			done.Job, done.Ref = d.Job, p.Ahead[last]
			p.Ahead = p.Ahead[:last]
			if p.Completions.Push(&done) != nil {
				return
			}
			p.HostBell.Ring()
		}
	}
}
