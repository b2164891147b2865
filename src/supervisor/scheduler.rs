//! Wakes each poller when it is due, or is called to the gate: one queue of all that sleep, and a task for each that is awake.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::JoinMap;

use crate::ampersand::Fetch;
use crate::board::{ByKey, Watched};
use crate::clock;
use crate::error::chain;
use crate::poller::{Poller, Shared};
use crate::project::Projects;

/// So many orders or ends may wait: enough that neither side waits for the other on each of many.
const WAITING: usize = 256;
/// So many of one kind are taken in before the others have their turn.
const BATCH: usize = 64;

/// A poller has ended: its watch is over, or it was stopped, or it panicked.
#[derive(Debug)]
pub(super) struct Ended {
    pub watched: Arc<Watched>,
    /// What the panic said.
    pub panic: Option<String>,
}

enum Order {
    Start(Box<Poller>),
    Stop(Arc<Watched>),
}

/// The scheduler as the supervisor has it.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// `None` once it is shutting down.
    orders: Option<mpsc::Sender<Order>>,
    ended: mpsc::Receiver<Ended>,
    task: JoinSet<()>,
}

impl Scheduler {
    /// Starts the task, and with it all pollers, on the runtime `polling`.
    pub fn start<F: Fetch>(shared: Arc<Shared<F>>, projects: Arc<Projects>, polling: &Handle) -> Self {
        let (orders, received) = mpsc::channel(WAITING);
        let (ended, ends) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        let queue = Queue {
            shared,
            projects,
            orders: received,
            ended,
            untold: VecDeque::new(),
            asleep: BTreeMap::new(),
            awake: JoinMap::new(),
            stopping: HashSet::new(),
        };
        task.spawn_on(queue.run(), polling);
        Self {
            orders: Some(orders),
            ended: ends,
            task,
        }
    }

    /// Puts a poller to sleep until its first poll. Its watch has no other one.
    pub async fn start_poller(&self, poller: Box<Poller>) {
        self.order(Order::Start(poller)).await;
    }

    /// Ends the poller of that watch, whatever it does; that it has ended is told as any end.
    pub async fn stop_poller(&self, watched: Arc<Watched>) {
        self.order(Order::Stop(watched)).await;
    }

    /// The next poller that has ended.
    pub async fn ended(&mut self) -> Ended {
        match self.ended.recv().await {
            Some(ended) => ended,
            // Only by a bug: then every poller is late, and the daemon's health says so.
            None => std::future::pending().await,
        }
    }

    /// Ends all pollers.
    pub async fn shut_down(&mut self) {
        self.orders = None;
        while let Some(joined) = self.task.join_next().await {
            if let Err(error) = joined {
                tracing::error!(
                    error = chain(&error),
                    "the scheduler ended badly: this is a bug, please report it"
                );
            }
        }
    }

    async fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // It refuses only if it has ended by a bug, see above.
            let _ = orders.send(order).await;
        }
    }
}

/// What the task has.
struct Queue<F> {
    shared: Arc<Shared<F>>,
    projects: Arc<Projects>,
    orders: mpsc::Receiver<Order>,
    ended: mpsc::Sender<Ended>,
    /// Ends that the supervisor has yet to take: it may be waiting here with an order.
    untold: VecDeque<Ended>,
    /// By the time to wake up, which the watch's pulse tells too, and the watch's number.
    /// Boxed, as the map has room for twice as many.
    asleep: BTreeMap<(Instant, u64), Box<Poller>>,
    awake: JoinMap<ByKey, Option<Box<Poller>>>,
    /// Those awake that were stopped.
    stopping: HashSet<ByKey>,
}

impl<F: Fetch> Queue<F> {
    async fn run(mut self) {
        let (bell, ended) = (self.projects.bell(), self.ended.clone());
        let mut alarm = std::pin::pin!(sleep_until(clock::instant()));
        loop {
            self.take_in();
            let next = self.asleep.first_key_value().map(|((at, _), _)| *at);
            if let Some(at) = next.filter(|at| *at != alarm.deadline()) {
                alarm.as_mut().reset(at);
            }
            tokio::select! {
                biased;
                () = &mut alarm, if next.is_some() => {}
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => break,
                },
                Some((of, joined)) = self.awake.join_next(), if !self.awake.is_empty() => self.joined(of, joined),
                Ok(place) = ended.reserve(), if !self.untold.is_empty() => {
                    if let Some(ended) = self.untold.pop_front() {
                        place.send(ended);
                    }
                }
                () = bell.notified() => self.answer_calls(),
            }
        }
        self.awake.shutdown().await;
    }

    /// Takes in what is at hand, some of each kind.
    fn take_in(&mut self) {
        let now = clock::instant();
        while let Some(first) = self.asleep.first_entry().filter(|first| first.key().0 <= now) {
            let poller = first.remove();
            self.wake(poller, false);
        }
        for _ in 0..BATCH {
            let Ok(order) = self.orders.try_recv() else { break };
            self.obey(order);
        }
        for _ in 0..BATCH {
            let Some((of, joined)) = self.awake.try_join_next() else {
                break;
            };
            self.joined(of, joined);
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Start(poller) => self.put_to_sleep(poller),
            Order::Stop(watched) => {
                let sleeps_until = watched.pulse.sleeps_until();
                if sleeps_until.is_some_and(|at| self.asleep.remove(&(at, watched.number)).is_some()) {
                    self.untold.push_back(Ended { watched, panic: None });
                } else if self.awake.abort(&watched.key) {
                    self.stopping.insert(ByKey(watched));
                }
            }
        }
    }

    fn joined(&mut self, ByKey(watched): ByKey, joined: Result<Option<Box<Poller>>, JoinError>) {
        let stopped = self.stopping.remove(&watched.key);
        let panic = match joined {
            // One that had done its work before it was stopped.
            Ok(Some(poller)) if !stopped => return self.put_to_sleep(poller),
            Err(error) if error.is_panic() => Some(panic_message(error)),
            Ok(_) | Err(_) => None,
        };
        self.untold.push_back(Ended { watched, panic });
    }

    fn put_to_sleep(&mut self, poller: Box<Poller>) {
        let at = poller.wakes_at(&self.shared.poll.borrow());
        poller.watched.pulse.sleep_until(at);
        let calls = poller.project.gate().is_calling();
        self.asleep.insert((at, poller.watched.number), poller);
        if calls {
            self.answer_calls();
        }
    }

    fn wake(&mut self, poller: Box<Poller>, called: bool) {
        let by_key = ByKey(Arc::clone(&poller.watched));
        self.awake
            .spawn(by_key, poller.wake(Arc::clone(&self.shared), called));
    }

    /// Wakes a sleeper for each gate that calls one: who was polled the longest ago, so that each has its turn.
    fn answer_calls(&mut self) {
        for project in self.projects.calling() {
            let sleepers = self.asleep.iter();
            let of_project = sleepers.filter(|(_, poller)| Arc::ptr_eq(&poller.project, &project));
            let longest = of_project.min_by_key(|(_, poller)| poller.observed);
            // Without any the call stands until somebody goes to sleep.
            let Some(place) = longest.map(|(place, _)| *place) else {
                continue;
            };
            if project.gate().answer_call()
                && let Some(poller) = self.asleep.remove(&place)
            {
                self.wake(poller, true);
            }
        }
    }
}

fn panic_message(error: JoinError) -> String {
    let payload = error.into_panic();
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
