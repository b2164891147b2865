//! Promises about groups: each round is reported once, when all its watches are finished and none joined for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backfill_watch::core::event::EventType;
use backfill_watch::core::watch_list::WatchKey;
use serde_json::Value;

use super::demands::label;
use super::{State, may_start_again};
use crate::extras::wall_at;
use crate::scenario::{Knobs, Scenario, seconds};

/// Discovery awaits an object without a backfill for so long.
pub(super) const AWAITED_FOR: Duration = Duration::from_mins(30);
/// Discovery finds a change within so long, when nothing fails.
const ROUNDS: Duration = Duration::from_mins(10);

/// A client gets the answer at most this long after its watch has joined.
const ANSWER: Duration = Duration::from_secs(1);

/// What was reported about groups.
#[derive(Debug, Default)]
pub(super) struct Completed {
    /// By project, label and group: the last round.
    rounds: BTreeMap<(String, String, String), u64>,
    /// The operations that were in a completed round, each with how often it had ended.
    operations: BTreeSet<(WatchKey, u32)>,
}

/// The group that an event of a group names.
pub(super) fn subject(data: &Value) -> String {
    format!("group {} {}", data["label"], data["group"])
}

fn ending(phase: &str) -> Option<EventType> {
    match phase {
        "succeeded" => Some(EventType::Succeeded),
        "failed" => Some(EventType::Failed),
        "ended" => Some(EventType::Ended),
        "gone" => Some(EventType::Gone),
        "expired" => Some(EventType::Expired),
        _ => None,
    }
}

impl State {
    /// Since when the label of groups is the one that it is now. `None` while a reload is under way.
    fn grouped_since(&self) -> Option<Duration> {
        let by = self.latest().group_by;
        let same = self.knobs.iter().rev();
        let same = same.take_while(|(_, knobs)| knobs.group_by == by);
        let since = same.last().map(|(from, _)| *from)?;
        self.replaced.is_none().then_some(since)
    }

    /// Whether the daemon surely knows by `then` that the watch is listed with this label.
    fn is_settled(&self, key: &WatchKey, by: &str, then: Duration) -> bool {
        let put = self.put.get(key).copied().unwrap_or_default();
        let labelled = self
            .demands
            .get(key)
            .map_or(then, |demand| demand.label_since(by));
        put.max(labelled).max(self.full_last) + self.lag <= then
    }

    pub(super) fn check_group(
        &mut self,
        scenario: &Scenario,
        project: &str,
        data: &Value,
        asked: Duration,
    ) -> Result<(), String> {
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        let (by, group) = (text("label"), text("group"));
        let lately = asked.saturating_sub(self.lag);
        if self.since(lately).all(|knobs| knobs.group_by != by) {
            return Err("groups are not formed by this label".to_owned());
        }
        let round = data["round"].as_u64().unwrap_or_default();
        let place = (project.to_owned(), by.clone(), group.clone());
        let before = self.completed.rounds.insert(place, round).unwrap_or(0);
        if round <= before {
            return Err(format!("round {before} was reported before"));
        }
        let operations = data["operations"].as_array().cloned().unwrap_or_default();
        if operations.is_empty() || data["operationCount"].as_u64() != Some(operations.len() as u64) {
            return Err("operations are missing".to_owned());
        }
        let settle = self
            .since(lately)
            .map(|knobs| knobs.settle)
            .min()
            .unwrap_or_default();
        let mut members = BTreeSet::new();
        let mut all_succeeded = true;
        for operation in &operations {
            let id = operation["operationId"].as_str().unwrap_or_default();
            let phase = operation["phase"].as_str().unwrap_or_default();
            let key = WatchKey {
                project: project.into(),
                operation: id.into(),
            };
            all_succeeded &= phase == "succeeded";
            let reported = self.reported.get(&key).ok_or("nothing is known of a member")?;
            if ending(phase).is_none() || reported.ended != ending(phase) {
                return Err(format!("{id} is not {phase} but {:?}", reported.ended));
            }
            if !self.completed.operations.insert((key.clone(), reported.endings)) {
                return Err(format!("{id} was in a completed round before"));
            }
            let demand = self.demands.get(&key).ok_or("nobody asks for a member")?;
            let mut terms = demand.since(lately).chain(self.maybe_added(&key));
            if terms.all(|terms| label(terms, &by) != Some(&group)) {
                return Err(format!("{id} is not of this group"));
            }
            let put = self.put.get(&key).copied().unwrap_or_default();
            // What discovery found joins before its first poll.
            let put = self.named_at(&key).map_or(put, |named| named.min(put));
            if !self.removed.contains_key(&key) && put <= asked && asked + ANSWER < put + settle {
                return Err(format!("{id} joined only at {put:?}, settle is {settle:?}"));
            }
            members.insert(key);
        }
        let outcome = if all_succeeded { "succeeded" } else { "failed" };
        if data["outcome"] != outcome {
            return Err(format!("its operations {outcome}"));
        }
        let is_grouped = self
            .grouped_since()
            .is_some_and(|since| since + self.lag <= asked && self.latest().group_by == by);
        let left = self.listed.iter().filter(|key| {
            *key.project == *project && !members.contains(*key) && self.label_of(key, &by) == Some(&group)
        });
        for key in left {
            let is_finished = self
                .reported
                .get(key)
                .is_some_and(|reported| reported.ended.is_some());
            if is_grouped && !is_finished && self.is_settled(key, &by, asked) {
                return Err(format!("{key} is not finished"));
            }
        }
        if by == "group" {
            self.check_awaited(scenario, project, &group, data, asked)?;
        }
        Ok(())
    }

    /// A group whose round was not reported in time.
    pub(super) fn late_group(&self) -> Option<String> {
        let late = self
            .open_groups()
            .into_iter()
            .find(|(latest, _)| self.now() > *latest);
        late.map(|(latest, group)| format!("{group}, until {latest:?}"))
    }

    /// The groups whose watches are all finished and whose round is not reported, and by when it has to be.
    pub(super) fn open_groups(&self) -> Vec<(Duration, String)> {
        let Some(since) = self.grouped_since() else {
            return Vec::new();
        };
        let by = self.latest().group_by;
        let mut groups: BTreeMap<(&str, &str), Vec<&WatchKey>> = BTreeMap::new();
        for key in &self.listed {
            if let Some(group) = self.label_of(key, by) {
                groups.entry((&*key.project, group)).or_default().push(key);
            }
        }
        let open = groups.into_iter().filter_map(|((project, group), members)| {
            let changed = self.demands.iter().filter(|(key, _)| *key.project == *project);
            let changed = changed.filter_map(|(key, demand)| {
                let (from, _) = demand.latest()?;
                Some(self.removed.get(key).map_or(*from, |removed| *from.max(removed)))
            });
            let changed = changed.max().unwrap_or_default();
            let mut complete = since.max(self.run_began).max(self.full_last).max(changed);
            let mut waits = None;
            for key in members {
                let reported = self.reported.get(key)?;
                let ended = reported.ended?;
                if may_start_again(ended) && reported.was_away {
                    return None;
                }
                let put = self.put.get(key).copied().unwrap_or_default();
                let labelled = self.demands.get(key)?.label_since(by);
                complete = complete.max(put).max(labelled).max(reported.ended_at);
                // It joined the group before it was finished.
                let joined = put.max(labelled).max(since);
                let lag = if joined == put && !self.removed.contains_key(key) {
                    Duration::ZERO
                } else {
                    self.lag
                };
                // What was created before the first start and was finished at its first answer may have ended before groups existed.
                let is_old = reported.started.is_none()
                    && self
                        .created
                        .get(key)
                        .is_some_and(|created| *created < wall_at(seconds(120)));
                let is_member = reported.ended_at > joined + lag && !is_old;
                let is_counted = self
                    .completed
                    .operations
                    .contains(&(key.clone(), reported.endings));
                if is_member && !is_counted {
                    waits = Some(key);
                }
            }
            let waits = waits?;
            let settle = self.since(complete).map(|knobs: &Knobs| knobs.settle).max()?;
            let mut latest = complete + settle + self.lag + seconds(30);
            if self.has_installations(project) {
                // Until then discovery may not know what the group has to wait for.
                latest = latest.max(self.calm) + AWAITED_FOR + ROUNDS;
            }
            let what =
                format!("group {group} of {project} is not reported: {waits} waits since {complete:?}");
            Some((latest, what))
        });
        open.collect()
    }

    fn has_installations(&self, project: &str) -> bool {
        self.discovers.iter().any(|name| **name == *project)
    }
}
