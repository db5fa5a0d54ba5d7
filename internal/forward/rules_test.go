package forward

import (
	"encoding/binary"
	"errors"
	"net/http/httptest"
	"testing"
)

// TestRules has the other node break the rules of a line: the line ends, and nothing else.
func TestRules(t *testing.T) {
	a, _ := pair(t, "carrier", waits(nil))
	x := a.view.Load().peers["b"]
	r := httptest.NewRequest("POST", "/", nil)
	request := func(id uint32, body int) []byte {
		f := appendRequest(appendFrame(nil, kindHead, id), r, 0, 1, nil)
		return endFrame(append(f, make([]byte, body)...), 0)
	}
	join := func(bs ...[]byte) (all []byte) {
		for _, b := range bs {
			all = append(all, b...)
		}
		return all
	}
	body := func(n int) []byte { return appendBody(nil, 1, 0, make([]byte, n)) }
	noHops := appendRequest(appendFrame(nil, kindHead, 1), r, 0, 0, nil)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"more of a body than is allowed":          {join(request(1, chunk), body(chunk), body(chunk), body(chunk+1)), errWindow},
		"credit beyond the window":                {join(request(1, 0), appendCredit(nil, 1, 1)), errWindow},
		"credit of very much":                     {join(request(1, 0), appendCredit(nil, 1, 1<<31)), errMalformed},
		"an id twice":                             {join(request(1, 0), request(1, 0)), errMalformed},
		"a question with the id of a request":     {join(request(1, 0), appendAskFrame(nil, 1, "m", nil)), errMalformed},
		"a frame too long":                        {binary.BigEndian.AppendUint32(nil, maxFrame+100), errMalformed},
		"a frame too short":                       {binary.BigEndian.AppendUint32(nil, 1), errMalformed},
		"an unknown kind":                         {join(request(1, 0), appendEmpty(nil, 99, 1)), errMalformed},
		"a request that nobody passed on":         {endFrame(noHops, 0), errMalformed},
		"a head that ends early":                  {endFrame(append(appendFrame(nil, kindHead, 1), 0, 1, 0x11, 0, 200), 0), errMalformed},
		"a body without its flags":                {join(request(1, 0), appendEmpty(nil, kindBody, 1)), errMalformed},
		"a question that says it has a long name": {endFrame(append(appendFrame(nil, kindAsk, 1), 0xff, 0xff, 0xff, 0xff, 0x0f), 0), errMalformed},
	} {
		in := newInbound(a.Peers, x, drain{})
		err := new(parser).feed(c.data, in.frame)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", name, err, c.want)
		}
		in.fail(errBroken)
	}
	answer := func(status int, n int, flags byte) []byte {
		return appendAnswerFrame(nil, 1, flags, status, nil, make([]byte, n))
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"no status":                             {answer(0, 0, flagEnd), errMalformed},
		"an informational one":                  {answer(101, 0, flagEnd), errMalformed},
		"a body before its head":                {body(1), errMalformed},
		"two heads":                             {join(answer(200, 0, 0), answer(200, 0, 0)), errMalformed},
		"more of a body than is allowed":        {join(answer(200, window, 0), body(1)), errWindow},
		"a question's answer to a request":      {appendEmpty(nil, kindAsk, 1), errMalformed},
		"an answer to a request that has ended": {join(answer(200, 0, flagEnd), body(100), appendEmpty(nil, 99, 1)), nil},
	} {
		o := newOutbound(a.Peers, x, drain{}, true)
		if _, err := o.begin(); err != nil {
			t.Fatal(err)
		}
		o.release(false)
		if err := new(parser).feed(c.data, o.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v, want %v", name, err, c.want)
		}
		o.fail(errBroken)
	}
	eventually(t, "an end of all handlers", func() bool { return a.group.count() == 2 })

	// Too much unread, of many bodies that nobody reads: the last breaks, the line does not.
	in := newInbound(a.Peers, x, drain{})
	in.unread.Store(maxUnread - 10)
	if err := new(parser).feed(join(request(1, 10), request(2, 11)), in.frame); err != nil {
		t.Errorf("much unread: got error %v, want none", err)
	}
	in.mu.Lock()
	first, second := in.served[1], in.served[2]
	in.mu.Unlock()
	if first == nil || second == nil || first.err != nil || second.err == nil {
		t.Error("much unread: want the second body to break, and the first not")
	}
	in.unread.Add(10 - maxUnread)
	in.fail(errBroken)
}

// count returns how many goroutines there are.
func (g *group) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}
