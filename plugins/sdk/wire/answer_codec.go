package wire

import "inos/protocols/system/v1"

func writeAnswer(w *writer, s system.Answer, a Answer) {
	s.SetCallId(a.CallID)
	writeFailure(w, s.NewError, a.Err)
	if a.Body != nil {
		a.Body.writeAnswer(w, s.Result())
	}
}

func readAnswer(r *reader, s system.Answer) Answer {
	return Answer{
		CallID: s.CallId(),
		Err:    readStruct(r, "error", s.Error, readError),
		Body:   readAnswerBody(r, s.Result()),
	}
}

func readAnswerBody(r *reader, b system.Answer_result) AnswerBody {
	switch b.Which() {
	case system.Answer_result_Which_none:
		return nil
	case system.Answer_result_Which_ref:
		return Granted{readStruct(r, "ref", b.Ref, readRef)}
	case system.Answer_result_Which_storeChunk:
		return readStruct(r, "storeChunk", b.StoreChunk, func(r *reader, s system.StoredChunk) Stored {
			return Stored{Hash: r.digest("hash", s.Hash), Replicas: s.Replicas()}
		})
	case system.Answer_result_Which_sendMessage:
		return readStruct(r, "sendMessage", b.SendMessage, func(_ *reader, s system.Delivery) Delivery {
			return Delivery{Delivered: s.Delivered(), Latency: duration(s.LatencyNs())}
		})
	case system.Answer_result_Which_hostCall:
		return readStruct(r, "hostCall", b.HostCall, func(r *reader, s system.HostCallResult) Called {
			return Called{
				Status: readEnum(r, "status", s.Status()),
				Output: readStruct(r, "output", s.Output, readRef),
				Cost:   s.Cost(),
			}
		})
	case system.Answer_result_Which_instance:
		return Spawned{b.Instance()}
	case system.Answer_result_Which_state:
		return readStruct(r, "state", b.State, func(r *reader, s system.StateGrant) StateGrant {
			return StateGrant{Block: readStruct(r, "block", s.Block, readRef), Schema: s.Schema(), Fresh: s.Fresh()}
		})
	}
	r.fail("result", "%d is no answer that this build knows", b.Which())
	return nil
}

func (a Granted) writeAnswer(w *writer, b system.Answer_result) {
	writeStruct(w, "ref", b.NewRef, writeRef, a.Ref)
}

func (a Stored) writeAnswer(w *writer, b system.Answer_result) {
	writeStruct(w, "storeChunk", b.NewStoreChunk, func(w *writer, s system.StoredChunk, a Stored) {
		w.data("hash", s.SetHash, a.Hash[:], len(a.Hash))
		s.SetReplicas(a.Replicas)
	}, a)
}

func (a Delivery) writeAnswer(w *writer, b system.Answer_result) {
	writeStruct(w, "sendMessage", b.NewSendMessage, func(_ *writer, s system.Delivery, a Delivery) {
		s.SetDelivered(a.Delivered)
		s.SetLatencyNs(nanoseconds(a.Latency))
	}, a)
}

func (a Called) writeAnswer(w *writer, b system.Answer_result) {
	writeStruct(w, "hostCall", b.NewHostCall, func(w *writer, s system.HostCallResult, a Called) {
		writeEnum(w, "status", s.SetStatus, a.Status)
		writeStruct(w, "output", s.NewOutput, writeRef, a.Output)
		s.SetCost(a.Cost)
	}, a)
}

func (a Spawned) writeAnswer(_ *writer, b system.Answer_result) { b.SetInstance(a.Instance) }

func (a StateGrant) writeAnswer(w *writer, b system.Answer_result) {
	writeStruct(w, "state", b.NewState, func(w *writer, s system.StateGrant, a StateGrant) {
		writeStruct(w, "block", s.NewBlock, writeRef, a.Block)
		s.SetSchema(a.Schema)
		s.SetFresh(a.Fresh)
	}, a)
}
