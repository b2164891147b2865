//! Random customers, the same for the same seed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::backfill::SimulatedBackfill;
use super::customer_change::{CustomerChange, OperationsAfterDelete};
use super::installation::{
    BackfillPeriod, SimulatedAuthentication, SimulatedGroup, SimulatedInstallation, SimulatedObject,
};
use super::operation::SimulatedOperation;
use super::seeded_random::SeededRandom;
use super::uuid;

const DAY: Duration = Duration::from_secs(86_400);
const OBJECTS: [&str; 10] = [
    "account",
    "campaign",
    "case",
    "contact",
    "deal",
    "invoice",
    "lead",
    "opportunity",
    "task",
    "user",
];
/// The objects of a customer whose backfills ended long ago.
const OLD_OBJECTS: u32 = 5;

/// Random customers that install over time.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use std::time::Duration;
/// use backfill_watch::simulator::{
///     CustomerPlan, SeededRandom, SimulatedOperation, Simulator, SimulatorConfig,
/// };
///
/// let simulator = Simulator::start(SimulatorConfig::default()).await?;
/// let plan = CustomerPlan {
///     customers: 20,
///     install_over: Duration::from_secs(10),
///     ..CustomerPlan::default()
/// };
/// let read = |_: &SeededRandom| SimulatedOperation::new("", Duration::from_secs(2), 500);
/// simulator.schedule(plan.generate(&SeededRandom::new(7), read));
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CustomerPlan {
    /// The number of customers that install.
    pub customers: u32,
    /// How many objects with a backfill each has, at least one.
    pub objects: RangeInclusive<u32>,
    /// The time in which they install.
    pub install_over: Duration,
    /// The longest time from an installation to the start of a backfill.
    pub backfill_delay: Duration,
    /// The number of backfills that ended long ago, of customers that installed before.
    pub old_backfills: u32,
    /// The probability that a customer later adds an object, backfills an object again, or deletes the installation.
    pub changes: f64,
}

impl Default for CustomerPlan {
    /// Ten customers with 1 to 5 objects that install within a minute; nothing else.
    fn default() -> Self {
        Self {
            customers: 10,
            objects: 1..=5,
            install_over: Duration::from_secs(60),
            backfill_delay: Duration::from_secs(1),
            old_backfills: 0,
            changes: 0.0,
        }
    }
}

impl CustomerPlan {
    /// All changes, for [`Simulator::schedule`](super::Simulator::schedule). `read` returns the course of each backfill.
    pub fn generate(
        &self,
        random: &SeededRandom,
        mut read: impl FnMut(&SeededRandom) -> SimulatedOperation,
    ) -> Vec<(Duration, CustomerChange)> {
        let mut changes = self.old_customers(random, &mut read);
        for number in 1..=self.customers {
            let at = self.install_over.mul_f64(random.next_f64());
            let installation = self.customer(number, random, &mut read);
            let later = self.later_change(&installation, random, &mut read);
            changes.push((at, CustomerChange::Install(installation)));
            if random.next_f64() < self.changes {
                let wait = self.install_over.mul_f64(random.next_f64());
                changes.push((at.saturating_add(wait), later));
            }
        }
        changes
    }

    fn customer(
        &self,
        number: u32,
        random: &SeededRandom,
        read: &mut impl FnMut(&SeededRandom) -> SimulatedOperation,
    ) -> SimulatedInstallation {
        let count = within(&self.objects, random).max(1);
        let mut names = object_names(count + 2, random).into_iter();
        let mut objects: Vec<SimulatedObject> = names
            .by_ref()
            .take(count as usize)
            .map(|name| {
                let wait = self.backfill_delay.mul_f64(random.next_f64());
                SimulatedObject::reading(name, SimulatedBackfill::after(wait, read(random)))
            })
            .collect();
        // Some customers have objects without a backfill, too.
        let extra = random.next_f64();
        if let (true, Some(name)) = (extra < 0.5, names.next()) {
            let period = if extra < 0.25 {
                BackfillPeriod::Days(0)
            } else {
                BackfillPeriod::Days(30)
            };
            objects.push(SimulatedObject {
                period,
                is_disabled: extra >= 0.25,
                ..SimulatedObject::new(name)
            });
        }
        installation(
            &format!("customer-{number}"),
            &format!("Customer {number}"),
            objects,
            random,
        )
    }

    fn later_change(
        &self,
        before: &SimulatedInstallation,
        random: &SeededRandom,
        read: &mut impl FnMut(&SeededRandom) -> SimulatedOperation,
    ) -> CustomerChange {
        let installation = before.id.clone();
        let backfill = SimulatedBackfill::new(read(random));
        let object = before
            .objects
            .first()
            .map_or("contact", |object| object.name.as_str());
        match random.next_u64() % 3 {
            0 => CustomerChange::AddObject {
                installation,
                object: SimulatedObject::reading("added_object", backfill),
            },
            1 => CustomerChange::Backfill {
                installation,
                object: object.to_owned(),
                backfill,
            },
            _ => CustomerChange::Delete {
                installation,
                operations: OperationsAfterDelete::Continue,
            },
        }
    }

    /// Customers that installed three months ago, and whose backfills ended at least two days ago.
    fn old_customers(
        &self,
        random: &SeededRandom,
        read: &mut impl FnMut(&SeededRandom) -> SimulatedOperation,
    ) -> Vec<(Duration, CustomerChange)> {
        let mut left = self.old_backfills;
        let mut changes = Vec::new();
        while left > 0 {
            let count = left.min(OLD_OBJECTS);
            left -= count;
            let names = object_names(count, random).into_iter();
            let objects = names.map(|name| {
                let read = read(random);
                let age = 2 * DAY + (80 * DAY).mul_f64(random.next_f64());
                SimulatedObject::reading(name, SimulatedBackfill::ago(age + read.duration, read))
            });
            let number = changes.len() + 1;
            let reference = format!("old-customer-{number}");
            let name = format!("Old customer {number}");
            let installation = SimulatedInstallation {
                age: 90 * DAY,
                ..installation(&reference, &name, objects.collect(), random)
            };
            changes.push((Duration::ZERO, CustomerChange::Install(installation)));
        }
        changes
    }
}

fn installation(
    reference: &str,
    name: &str,
    objects: Vec<SimulatedObject>,
    random: &SeededRandom,
) -> SimulatedInstallation {
    let authentication = if random.next_u64().is_multiple_of(2) {
        SimulatedAuthentication::OAuth2
    } else {
        SimulatedAuthentication::ApiKey
    };
    SimulatedInstallation {
        id: uuid::random(random),
        group: Some(SimulatedGroup {
            reference: reference.to_owned(),
            name: name.to_owned(),
        }),
        authentication,
        ..SimulatedInstallation::new(reference, objects)
    }
}

/// A random number of the range, its start if it is empty.
fn within(range: &RangeInclusive<u32>, random: &SeededRandom) -> u32 {
    let choices = u64::from(range.end().saturating_sub(*range.start())) + 1;
    // The remainder is at most the difference of two `u32`.
    range.start().saturating_add((random.next_u64() % choices) as u32)
}

/// `count` different names.
fn object_names(count: u32, random: &SeededRandom) -> BTreeSet<String> {
    let first = random.next_u64() as usize % OBJECTS.len();
    let names = (0..count as usize).map(|number| {
        let name = OBJECTS[(first + number) % OBJECTS.len()];
        match number / OBJECTS.len() {
            0 => name.to_owned(),
            series => format!("{name}_{series}"),
        }
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::super::backfill::BackfillStart;
    use super::*;

    fn plan() -> CustomerPlan {
        CustomerPlan {
            customers: 200,
            objects: 1..=12,
            old_backfills: 12,
            changes: 0.5,
            ..CustomerPlan::default()
        }
    }

    fn generate(seed: u64) -> Vec<(Duration, CustomerChange)> {
        plan().generate(&SeededRandom::new(seed), |_| {
            SimulatedOperation::new("", Duration::from_secs(1), 10)
        })
    }

    fn installed(changes: &[(Duration, CustomerChange)]) -> impl Iterator<Item = &SimulatedInstallation> {
        changes.iter().filter_map(|(_, change)| match change {
            CustomerChange::Install(installation) => Some(installation),
            _ => None,
        })
    }

    #[test]
    fn a_seed_determines_all_customers() {
        assert_eq!(generate(1), generate(1));
        assert_ne!(generate(1), generate(2));
        let changes = generate(1);
        let ids: BTreeSet<&str> = installed(&changes).map(|one| one.id.as_str()).collect();
        assert_eq!(ids.len(), 203);
    }

    #[test]
    fn customers_are_within_the_plan_and_of_every_kind() {
        let changes = generate(1);
        assert!(changes.iter().all(|(at, _)| *at <= 2 * plan().install_over));
        let later = changes.len() - 203;
        assert!((60..140).contains(&later), "{later}");
        let mut counts = BTreeSet::new();
        let (mut without, mut disabled) = (0, 0);
        for one in installed(&changes).filter(|one| one.age.is_zero()) {
            let names: BTreeSet<&str> = one.objects.iter().map(|object| object.name.as_str()).collect();
            assert_eq!(names.len(), one.objects.len());
            counts.insert(
                one.objects
                    .iter()
                    .filter(|object| object.backfill.is_some())
                    .count(),
            );
            without += one
                .objects
                .iter()
                .filter(|object| object.period == BackfillPeriod::Days(0))
                .count();
            disabled += one.objects.iter().filter(|object| object.is_disabled).count();
        }
        assert_eq!(counts, (1..=12).collect());
        assert!(without > 20 && disabled > 20, "{without} {disabled}");
        for kind in ["AddObject", "Backfill", "Delete"] {
            assert!(
                changes
                    .iter()
                    .any(|(_, change)| format!("{change:?}").starts_with(kind)),
                "{kind}"
            );
        }
    }

    #[test]
    fn old_backfills_ended_two_days_ago_or_earlier() {
        let changes = generate(1);
        let old: Vec<_> = installed(&changes).filter(|one| !one.age.is_zero()).collect();
        let backfills = old
            .iter()
            .flat_map(|one| one.objects.iter().map(move |object| (one, object)));
        let mut count = 0;
        for (one, object) in backfills {
            let backfill = object.backfill.as_ref().unwrap();
            let BackfillStart::Ago(age) = backfill.start else {
                panic!("{backfill:?}")
            };
            assert!(age >= 2 * DAY + backfill.read.duration && age <= one.age);
            count += 1;
        }
        assert_eq!((count, old.len()), (12, 3));
    }
}
