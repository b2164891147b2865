//! A queue with a limit in bytes. It drops unimportant entries first.

use std::collections::VecDeque;

/// The bytes that are counted for an entry besides its own.
const OVERHEAD: usize = 64;

/// The priority of an entry when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Dropped first.
    Ordinary,
    /// Dropped only when no ordinary entry waits.
    Important,
}

/// Entries in their order, up to a number of bytes.
#[derive(Debug)]
pub(super) struct Queue<T> {
    capacity: usize,
    used: usize,
    next: u64,
    ordinary: VecDeque<QueuedItem<T>>,
    important: VecDeque<QueuedItem<T>>,
    dropped: u64,
}

#[derive(Debug)]
struct QueuedItem<T> {
    number: u64,
    size: usize,
    value: T,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            used: 0,
            next: 0,
            ordinary: VecDeque::new(),
            important: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Adds an entry. An important one replaces the newest ordinary ones. Returns false if the entry was dropped.
    pub(super) fn push(&mut self, priority: Priority, size: usize, value: T) -> bool {
        let size = size.saturating_add(OVERHEAD);
        if priority == Priority::Important && size <= self.capacity {
            while self.used + size > self.capacity
                && let Some(entry) = self.ordinary.pop_back()
            {
                self.used -= entry.size;
                self.dropped += 1;
            }
        }
        if self.used.saturating_add(size) > self.capacity {
            self.dropped += 1;
            return false;
        }
        let number = self.next;
        self.next += 1;
        self.used += size;
        let entry = QueuedItem { number, size, value };
        match priority {
            Priority::Ordinary => self.ordinary.push_back(entry),
            Priority::Important => self.important.push_back(entry),
        }
        true
    }

    /// Takes the oldest entries: up to `bytes` in total, at least one.
    pub(super) fn take(&mut self, bytes: usize) -> Vec<T> {
        let mut taken = Vec::new();
        let mut size = 0;
        while let Some(entry) = self.pop_if(|next| size == 0 || size + next <= bytes) {
            size += entry.size;
            self.used -= entry.size;
            taken.push(entry.value);
        }
        if self.used == 0 {
            // Free the memory after a burst.
            self.ordinary.shrink_to(64);
            self.important.shrink_to(64);
        }
        taken
    }

    /// The oldest entry, if its size is accepted.
    fn pop_if(&mut self, is_accepted: impl Fn(usize) -> bool) -> Option<QueuedItem<T>> {
        let number = |queue: &VecDeque<QueuedItem<T>>| queue.front().map_or(u64::MAX, |entry| entry.number);
        let queue = if number(&self.ordinary) < number(&self.important) {
            &mut self.ordinary
        } else {
            &mut self.important
        };
        queue.pop_front_if(|entry| is_accepted(entry.size))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ordinary.is_empty() && self.important.is_empty()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 100 - OVERHEAD;

    #[test]
    fn entries_leave_in_their_order() {
        let mut queue = Queue::new(1_000);
        for n in 0..6 {
            let priority = if n % 2 == 0 {
                Priority::Ordinary
            } else {
                Priority::Important
            };
            assert!(queue.push(priority, SIZE, n));
        }
        assert_eq!(queue.take(250), [0, 1]);
        assert_eq!(queue.take(1), [2], "at least one");
        assert_eq!(queue.take(usize::MAX), [3, 4, 5]);
        assert!(queue.is_empty() && queue.take(1).is_empty());
        assert_eq!((queue.used, queue.dropped()), (0, 0));
    }

    #[test]
    fn ordinary_entries_are_dropped_first() {
        let mut queue = Queue::new(300);
        for n in 0..5 {
            assert_eq!(queue.push(Priority::Ordinary, SIZE, n), n < 3);
        }
        assert_eq!(queue.dropped(), 2);
        for n in 10..15 {
            assert_eq!(queue.push(Priority::Important, SIZE, n), n < 13, "{n}");
        }
        assert_eq!(queue.dropped(), 2 + 3 + 2);
        assert_eq!(queue.take(usize::MAX), [10, 11, 12]);
    }

    #[test]
    fn the_oldest_ordinary_entries_stay_and_one_that_never_fits_drops_nothing_else() {
        let mut queue = Queue::new(300);
        for n in 0..3 {
            queue.push(Priority::Ordinary, SIZE, n);
        }
        assert!(!queue.push(Priority::Important, 301, 9));
        assert!(!queue.push(Priority::Important, usize::MAX, 9));
        assert!(queue.push(Priority::Important, SIZE, 10));
        assert_eq!(queue.take(usize::MAX), [0, 1, 10]);
        assert_eq!(queue.dropped(), 3);
    }
}
