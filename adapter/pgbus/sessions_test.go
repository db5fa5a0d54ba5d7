//go:build unix

package pgbus

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atollhq/atoll/recovery"
)

// Two nodes take and store sessions, many at once, while the one that had them updates them in another order: no statement
// fails, and each session is taken once.
func TestSessionsTogether(t *testing.T) {
	s := server(t)
	url := s.URL(s.Database(t))
	owner, takers := openLog(t, url, LogOptions{}), []*Log{openLog(t, url, LogOptions{}), openLog(t, url, LogOptions{})}
	const n = 200
	sessions := make([]*recovery.Session, n)
	var wg sync.WaitGroup
	for i := range sessions {
		sessions[i] = &recovery.Session{PID: fmt.Sprint("pid", i), SID: fmt.Sprint("sid", i), Rooms: []string{"red"}}
		wg.Go(func() {
			if err := owner.Create(t.Context(), sessions[i], time.Minute); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var updating sync.WaitGroup
	over := make(chan struct{})
	updating.Go(func() {
		all := slices.Clone(sessions)
		for {
			select {
			case <-over:
				return
			default:
			}
			rand.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
			if _, err := owner.Update(t.Context(), all, time.Minute); err != nil {
				t.Error(err)
			}
		}
	})
	var got [n]atomic.Int64
	for i := range n {
		for _, l := range takers {
			wg.Go(func() {
				x, err := l.Take(t.Context(), fmt.Sprint("pid", i))
				switch {
				case errors.Is(err, recovery.ErrUnknown):
				case err != nil || x.SID != fmt.Sprint("sid", i):
					t.Errorf("pid%d: got session %+v and error %v", i, x, err)
				default:
					got[i].Add(1)
				}
			})
		}
	}
	wg.Wait()
	close(over)
	updating.Wait()
	for i := range got {
		if k := got[i].Load(); k != 1 {
			t.Errorf("pid%d: got it taken %d times, want once", i, k)
		}
	}
}
