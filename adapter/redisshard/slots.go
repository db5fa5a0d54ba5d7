package redisshard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"github.com/atollhq/atoll/internal/redissub"
)

// slotOf returns the slot of a channel in a Redis Cluster.
//
// See https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
func slotOf(channel string) int {
	if i := strings.IndexByte(channel, '{'); i >= 0 {
		if n := strings.IndexByte(channel[i+1:], '}'); n > 0 {
			channel = channel[i+1 : i+1+n]
		}
	}
	crc := uint16(0)
	for i := range len(channel) {
		crc ^= uint16(channel[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % 16384
}

// slots says which server serves which slots.
type slots struct{ ranges []slotRange } // in order

type slotRange struct {
	first, last int
	addr        string
}

// owner returns the address of the server that serves a slot, empty where none does.
func (s *slots) owner(slot int) string {
	i := sort.Search(len(s.ranges), func(i int) bool { return s.ranges[i].last >= slot })
	if i == len(s.ranges) || s.ranges[i].first > slot {
		return ""
	}
	return s.ranges[i].addr
}

// masters returns the addresses of all servers that serve slots.
func (s *slots) masters() []string {
	var addrs []string
	for _, r := range s.ranges {
		if !slices.Contains(addrs, r.addr) {
			addrs = append(addrs, r.addr)
		}
	}
	return addrs
}

// A topology knows the slots, until it is told that they have changed.
type topology struct {
	mu      sync.Mutex
	known   *slots
	version int    // grows with each forget
	hint    string // who should know best, empty where nobody has said so
}

// forget says that slots have moved; to a server with the given address, if that is known.
func (p *topology) forget(hint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = nil
	p.version++
	if hint != "" {
		p.hint = hint
	}
}

// get returns the slots. It asks one server after the other where they are not known.
func (p *topology) get(ctx context.Context, client rueidis.Client) (*slots, error) {
	p.mu.Lock()
	known, version, hint := p.known, p.version, p.hint
	p.hint = ""
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	nodes := client.Nodes()
	addrs := make([]string, 0, len(nodes))
	for addr := range nodes {
		addrs = append(addrs, addr)
	}
	slices.SortFunc(addrs, func(a, b string) int { // the hint first; the others as the map has them
		return btoi(b == hint) - btoi(a == hint)
	})
	err := errors.New("the client knows no server")
	for _, addr := range addrs {
		var s *slots
		if s, err = ask(ctx, nodes[addr], addr); err != nil {
			continue
		}
		p.mu.Lock()
		if p.version == version {
			p.known = s
		}
		p.mu.Unlock()
		return s, nil
	}
	return nil, fmt.Errorf("no server of the Redis Cluster tells its slots: %w", err)
}

func btoi(v bool) int {
	if v {
		return 1
	}
	return 0
}

// ask asks one server for the slots.
func ask(ctx context.Context, node rueidis.Client, addr string) (*slots, error) {
	ctx, cancel := context.WithTimeout(ctx, redissub.LongestPause)
	defer cancel()
	reply, err := node.Do(ctx, node.B().Arbitrary("CLUSTER", "SLOTS").Build()).ToArray()
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	s := &slots{}
	for _, r := range reply {
		parts, err := r.ToArray()
		if err != nil || len(parts) < 3 {
			return nil, errSlots
		}
		first, err1 := parts[0].AsInt64()
		last, err2 := parts[1].AsInt64()
		master, err3 := parts[2].ToArray()
		if err1 != nil || err2 != nil || err3 != nil || len(master) < 2 {
			return nil, errSlots
		}
		name, _ := master[0].ToString() // where there is none, it is that of who answers
		if name == "" || name == "?" {
			name = host
		}
		port, err := master[1].AsInt64()
		if err != nil {
			return nil, errSlots
		}
		s.ranges = append(s.ranges, slotRange{int(first), int(last), net.JoinHostPort(name, strconv.FormatInt(port, 10))})
	}
	slices.SortFunc(s.ranges, func(a, b slotRange) int { return a.first - b.first })
	return s, nil
}

var errSlots = errors.New("CLUSTER SLOTS has an unknown form")
