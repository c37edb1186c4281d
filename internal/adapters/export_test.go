package adapters

// OnSync has f stand between the store and the disk.
func (s *Store) OnSync(f func(path string, sync func(string) error) error) {
	s.sync = func(path string) error { return f(path, syncPath) }
}
