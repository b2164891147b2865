//! Decides which connections a server keeps, and which one it closes for a new one.

use std::collections::BTreeMap;

/// The ID of an admitted connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// The requests that a connection may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionClass {
    /// Everything.
    Regular,
    /// Health and metrics only, since all regular connections are busy.
    Reserved,
}

/// Maximum numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Regular connections.
    pub regular: usize,
    /// Additional connections while all regular ones are busy.
    pub reserved: usize,
}

impl ConnectionLimits {
    /// At most 1,024 regular and 32 reserved connections, and together at most half of the open files: polls,
    /// deliveries and the state need the other half.
    #[must_use]
    pub fn within(open_files: u64) -> Self {
        let half = usize::try_from(open_files / 2).unwrap_or(usize::MAX).max(2);
        let reserved = MAX_RESERVED.min(half / 2);
        Self {
            regular: MAX_REGULAR.min(half - reserved),
            reserved,
        }
    }

    /// The limits of the control socket, which network clients cannot use up.
    #[must_use]
    pub fn of_control(open_files: u64) -> Self {
        let part = usize::try_from(open_files / 32).unwrap_or(usize::MAX).max(1);
        Self {
            regular: MAX_CONTROL.min(part),
            reserved: MAX_CONTROL_RESERVED.min(part),
        }
    }
}

const MAX_REGULAR: usize = 1_024;
const MAX_RESERVED: usize = 32;
const MAX_CONTROL: usize = 64;
const MAX_CONTROL_RESERVED: usize = 8;

/// A connection that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the displaced connection must be closed"]
pub struct AdmittedConnection {
    /// The new connection. It is idle until its first request.
    pub id: ConnectionId,
    /// The requests that it may make.
    pub class: ConnectionClass,
    /// The connection to close for it. It is no longer counted.
    pub displaced: Option<ConnectionId>,
}

/// All connections of one listener.
#[derive(Debug)]
pub struct Connections {
    regular: Pool,
    reserved: Pool,
    /// Numbers admissions and ends of requests; lower numbers are older.
    next: u64,
}

#[derive(Debug)]
struct Pool {
    max: usize,
    /// When each connection became idle; `None` while a request is in progress.
    members: BTreeMap<ConnectionId, Option<u64>>,
    /// Idle connections, oldest first.
    idle: BTreeMap<u64, ConnectionId>,
}

impl Connections {
    /// No connections yet.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            regular: Pool::new(limits.regular),
            reserved: Pool::new(limits.reserved),
            next: 0,
        }
    }

    /// Admits a new connection; `None` if even the reserved ones are busy.
    pub fn admit(&mut self) -> Option<AdmittedConnection> {
        let id = ConnectionId(self.number());
        let now = self.number();
        let admitted = |class, displaced| AdmittedConnection { id, class, displaced };
        if let Some(displaced) = self.regular.admit(id, now) {
            return Some(admitted(ConnectionClass::Regular, displaced));
        }
        let displaced = self.reserved.admit(id, now)?;
        Some(admitted(ConnectionClass::Reserved, displaced))
    }

    /// A request of this connection is in progress.
    pub fn begin_request(&mut self, id: ConnectionId) {
        for pool in [&mut self.regular, &mut self.reserved] {
            pool.set_idle(id, None);
        }
    }

    /// The answer was sent, so the connection is idle.
    pub fn end_request(&mut self, id: ConnectionId) {
        let now = self.number();
        for pool in [&mut self.regular, &mut self.reserved] {
            pool.set_idle(id, Some(now));
        }
    }

    /// Removes a connection that has ended, if it still counts.
    pub fn remove(&mut self, id: ConnectionId) {
        for pool in [&mut self.regular, &mut self.reserved] {
            pool.remove(id);
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Pool {
    fn new(max: usize) -> Self {
        Self {
            max,
            members: BTreeMap::new(),
            idle: BTreeMap::new(),
        }
    }

    /// The displaced connection, if there is one; the outer `None` if all are busy.
    fn admit(&mut self, id: ConnectionId, now: u64) -> Option<Option<ConnectionId>> {
        let displaced = if self.members.len() < self.max {
            None
        } else {
            let (_, oldest) = self.idle.pop_first()?;
            self.members.remove(&oldest);
            Some(oldest)
        };
        self.members.insert(id, Some(now));
        self.idle.insert(now, id);
        Some(displaced)
    }

    fn set_idle(&mut self, id: ConnectionId, since: Option<u64>) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if let Some(before) = std::mem::replace(member, since) {
            self.idle.remove(&before);
        }
        if let Some(since) = since {
            self.idle.insert(since, id);
        }
    }

    fn remove(&mut self, id: ConnectionId) {
        self.set_idle(id, None);
        self.members.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connections(regular: usize, reserved: usize) -> Connections {
        Connections::new(ConnectionLimits { regular, reserved })
    }

    #[test]
    fn limits_follow_the_file_limit() {
        let limits = |files| {
            let limits = ConnectionLimits::within(files);
            (limits.regular, limits.reserved)
        };
        assert_eq!(limits(1_048_576), (1_024, 32));
        assert_eq!(limits(u64::MAX), (1_024, 32));
        assert_eq!(limits(2_112), (1_024, 32));
        assert_eq!(limits(1_024), (480, 32));
        assert_eq!(limits(64), (16, 16));
        assert_eq!(limits(0), (1, 1));
        let of_control = |files| {
            let limits = ConnectionLimits::of_control(files);
            (limits.regular, limits.reserved)
        };
        assert_eq!(of_control(u64::MAX), (64, 8));
        assert_eq!(of_control(64), (2, 2));
        assert_eq!(of_control(0), (1, 1));
    }

    #[test]
    fn the_connection_that_is_idle_for_the_longest_time_is_displaced() {
        let mut connections = connections(3, 1);
        let [a, b, c] = [(); 3].map(|()| connections.admit().unwrap().id);
        for id in [a, b, c] {
            connections.begin_request(id);
        }
        for id in [b, a] {
            connections.end_request(id);
        }
        let d = connections.admit().unwrap();
        assert_eq!((d.class, d.displaced), (ConnectionClass::Regular, Some(b)));
        // The displaced connection ends later, and must not be counted twice.
        connections.remove(b);
        let e = connections.admit().unwrap();
        assert_eq!((e.class, e.displaced), (ConnectionClass::Regular, Some(a)));
        connections.remove(c);
        assert_eq!(connections.admit().unwrap().displaced, None);
    }

    #[test]
    fn busy_connections_leave_a_new_one_a_reserved_place() {
        let mut connections = connections(1, 2);
        let busy = connections.admit().unwrap().id;
        connections.begin_request(busy);
        let first = connections.admit().unwrap();
        let second = connections.admit().unwrap();
        assert_eq!([first.class, second.class], [ConnectionClass::Reserved; 2]);
        let third = connections.admit().unwrap();
        assert_eq!(
            (third.class, third.displaced),
            (ConnectionClass::Reserved, Some(first.id))
        );
        for id in [second.id, third.id] {
            connections.begin_request(id);
        }
        assert_eq!(connections.admit(), None);
        connections.end_request(busy);
        assert_eq!(connections.admit().unwrap().class, ConnectionClass::Regular);
    }

    proptest! {
        /// No limit is exceeded, and no busy connection is displaced.
        #[test]
        fn limits_are_kept(steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 1..200)) {
            let limits = ConnectionLimits { regular: 4, reserved: 2 };
            let mut connections = Connections::new(limits);
            let mut open: BTreeMap<ConnectionId, (ConnectionClass, bool)> = BTreeMap::new();
            for (step, choice) in steps {
                if step == 0 || open.is_empty() {
                    let count = |wanted| open.values().filter(|(class, _)| *class == wanted).count();
                    let is_all_busy = open.values().all(|(_, busy)| *busy);
                    match connections.admit() {
                        Some(admitted) => {
                            if let Some(displaced) = admitted.displaced {
                                prop_assert_eq!(open.remove(&displaced), Some((admitted.class, false)));
                            }
                            open.insert(admitted.id, (admitted.class, false));
                        }
                        None => {
                            prop_assert!(is_all_busy);
                            prop_assert_eq!((count(ConnectionClass::Regular), count(ConnectionClass::Reserved)), (4, 2));
                        }
                    }
                } else {
                    let id = *choice.get(&open.keys().copied().collect::<Vec<_>>());
                    match step {
                        1 => {
                            connections.begin_request(id);
                            open.entry(id).and_modify(|(_, busy)| *busy = true);
                        }
                        2 => {
                            connections.end_request(id);
                            open.entry(id).and_modify(|(_, busy)| *busy = false);
                        }
                        _ => {
                            connections.remove(id);
                            open.remove(&id);
                        }
                    }
                }
                for (class, max) in [(ConnectionClass::Regular, limits.regular), (ConnectionClass::Reserved, limits.reserved)] {
                    prop_assert!(open.values().filter(|(of, _)| *of == class).count() <= max);
                }
            }
        }
    }
}
