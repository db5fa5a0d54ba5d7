package sticky

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A dribble is a client's connection that takes its time for each piece.
type dribble struct {
	feed
	head  int // so many bytes come first, at once
	pause time.Duration
	late  atomic.Int32 // how often that was too long
}

func (d *dribble) Read(b []byte) (int, error) {
	if d.piece = d.head; d.head == 0 {
		time.Sleep(d.pause)
		d.piece = 10
	}
	n, err := d.feed.Read(b)
	d.head = max(0, d.head-n)
	return n, err
}

func (d *dribble) SetReadDeadline(t time.Time) error {
	if t.Equal(longAgo) {
		d.late.Add(1)
	}
	return nil
}

// A body that is not for Path may take any time in all, if it does not stop for StallTimeout; one for Path has BodyTimeout in all.
// Both are a minute here.
func TestFrontSlowBodies(t *testing.T) {
	const length, chunked = "Content-Length: 40\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n28\r\n"
	body := strings.Repeat("0123456789", 4)
	for _, c := range []struct {
		name, text string
		pause      time.Duration
		late       bool
	}{
		{"steady", "POST /x HTTP/1.1\r\nHost: h\r\n" + length + body, 40 * time.Second, false},
		{"steady chunks", "POST /x HTTP/1.1\r\nHost: h\r\n" + chunked + body + "\r\n0\r\n\r\n", 40 * time.Second, false},
		{"stalled", "POST /x HTTP/1.1\r\nHost: h\r\n" + length + body, 70 * time.Second, true},
		{"for Path", "POST " + polling + "&sid=a HTTP/1.1\r\nHost: h\r\n" + length + body, 40 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, all := scripted(t)
				d := &dribble{feed: feed{in: []byte(c.text)}, head: strings.Index(c.text, "\r\n\r\n") + 4, pause: c.pause}
				got := playOn(t, l, all, d, c.text)
				if late := d.late.Load() > 0; late != c.late {
					t.Errorf("it was too late: %t, want %t", late, c.late)
				}
				if len(got) != 1 || got[0].body != body {
					t.Errorf("the node got %d requests, want one with the whole body", len(got))
				}
			})
		})
	}
}
