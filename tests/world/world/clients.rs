//! Promises about changes over HTTP: what was answered is on disk, and what was refused changed nothing.

use std::collections::BTreeMap;

use backfill_watch::core::source::{Source, Terms};
use backfill_watch::core::watch_list::WatchKey;
use backfill_watch::store::Withdrawal;

use super::{State, World};
use crate::clients::{ClientAnswer, ClientRequest};

/// What is known of the client's requests.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// The request that is not answered.
    underway: Option<ClientRequest>,
    /// What was added at any time.
    added: Vec<WatchKey>,
}

impl World {
    pub fn request_begins(&self, request: &ClientRequest) {
        let mut state = self.state();
        state.note(format!("request {request:?}"));
        if let ClientRequest::Put(watches) = request {
            for (key, _) in watches {
                state.demands.entry(key.clone()).or_default();
            }
        }
        state.clients.underway = Some(request.clone());
    }

    /// The request was answered. `None`: it was refused.
    pub fn request_ends(&self, answer: Option<ClientAnswer>) {
        let mut state = self.state();
        state.note(format!("answer to the client: {answer:?}"));
        let Some(request) = state.clients.underway.take() else {
            return;
        };
        let checked = answer.map_or(Ok(()), |answer| state.acknowledge(&request, &answer));
        drop(state);
        if let Err(why) = checked {
            self.violate(why);
        }
    }

    /// Checks what the state has, while no request is under way.
    pub fn check_on_disk(&self, on_disk: &BTreeMap<WatchKey, Terms>) {
        let asked = self.state().asked_over_http();
        if asked != *on_disk {
            self.violate(format!("the client asked for {asked:?}, on disk is {on_disk:?}"));
        }
    }

    /// A run begins with this state. A request that was under way was carried out as a whole, or not at all.
    pub fn adopt(&self, on_disk: &BTreeMap<WatchKey, Terms>) {
        let mut state = self.state();
        let before = state.asked_over_http();
        if before == *on_disk {
            state.clients.underway = None;
            return;
        }
        if let Some(request) = state.clients.underway.take() {
            state.note(format!("carried out: {request:?}"));
            state.apply(&request);
        }
        drop(state);
        self.check_on_disk(on_disk);
    }
}

impl State {
    /// What a request under way may have added for the watch.
    pub(super) fn maybe_added(&self, key: &WatchKey) -> Option<&Terms> {
        let Some(ClientRequest::Put(watches)) = &self.clients.underway else {
            return None;
        };
        let found = watches.iter().find(|(of, _)| of == key);
        found.map(|(_, terms)| terms)
    }

    fn asked_over_http(&self) -> BTreeMap<WatchKey, Terms> {
        let asked = self.demands.iter();
        let asked = asked.filter_map(|(key, demand)| Some((key.clone(), demand.of(Source::Api)?.clone())));
        asked.collect()
    }

    fn apply(&mut self, request: &ClientRequest) {
        match request {
            ClientRequest::Put(watches) => {
                for (key, terms) in watches {
                    self.demand(key, Source::Api, Some(terms));
                    self.clients.added.push(key.clone());
                }
            }
            ClientRequest::Withdraw(key) => self.demand(key, Source::Api, None),
        }
    }

    fn acknowledge(&mut self, request: &ClientRequest, answer: &ClientAnswer) -> Result<(), String> {
        let asked = self.asked_over_http();
        let is_right = match (request, answer) {
            (ClientRequest::Put(watches), ClientAnswer::Added(new)) => {
                let expected = watches.iter().map(|(key, _)| !asked.contains_key(key));
                expected.eq(new.iter().copied())
            }
            (ClientRequest::Withdraw(key), ClientAnswer::Withdrawn(answer)) => match answer {
                Withdrawal::Withdrawn => asked.contains_key(key),
                Withdrawal::AlreadyWithdrawn => !asked.contains_key(key) && self.clients.added.contains(key),
                Withdrawal::NeverAdded => !self.clients.added.contains(key),
            },
            _ => false,
        };
        self.apply(request);
        if is_right {
            Ok(())
        } else {
            Err(format!("the answer to {request:?} is {answer:?}"))
        }
    }
}
