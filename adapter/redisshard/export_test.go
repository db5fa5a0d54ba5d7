package redisshard

// Links returns how many connections the subscriptions have.
func (b *Bus) Links() int {
	b.base.Mu.Lock()
	defer b.base.Mu.Unlock()
	return len(b.links)
}

// SlotOf is slotOf.
func SlotOf(channel string) int { return slotOf(channel) }
