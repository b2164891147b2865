//! Answers queries about the groups.

use std::sync::Arc;

use super::group_rounds::AwaitedOperations;
use super::groups::GroupEntry;
use super::project_task::ProjectTask;
use super::watches::GroupNumber;
use crate::ampersand::Fetch;
use crate::board::{GroupFilter, GroupView, PAGE, Page};
use crate::core::group::Membership;
use crate::core::group_state::{GroupProgress, GroupState};

/// The most watches that are examined for one page. More would delay polls.
const WATCHES: usize = 5_000;

impl<F: Fetch> ProjectTask<F> {
    /// The next matching groups. At most [`PAGE`] groups and [`WATCHES`] of their watches are examined.
    pub(super) fn group_page(
        &self,
        after: Option<&str>,
        filter: &GroupFilter,
        limit: usize,
    ) -> Page<GroupView> {
        let mut page = Page::default();
        let mut left = WATCHES;
        for (examined, (number, entry)) in self.groups.after(after).enumerate() {
            if examined == PAGE || page.items.len() == limit || left == 0 {
                return page;
            }
            let name = entry.name.as_str();
            page.next = Some(Arc::from(name));
            if filter.matches(name, entry.state()) {
                page.items.push(self.view_of_group(number, entry));
                left = left.saturating_sub(entry.phases.total());
            }
        }
        page.next = None;
        page
    }

    fn view_of_group(&self, number: GroupNumber, entry: &GroupEntry) -> GroupView {
        let state = entry.state();
        let completed = entry.group.record().completed;
        let round = completed + u32::from(state == GroupState::Running);
        let membership = Membership {
            group: entry.group.id(),
            round,
        };
        let is_small = entry.phases.total() <= WATCHES;
        let progress = is_small.then(|| {
            let members = self.members(number, membership);
            GroupProgress::of(members.map(|(_, slot)| &slot.watched.watch))
        });
        let AwaitedOperations { awaited, missing } = self.awaited_operations(entry.name.as_str());
        GroupView {
            project: Arc::clone(&self.name),
            label: Arc::clone(self.groups.by()),
            group: entry.name.as_str().to_owned(),
            state,
            round,
            phases: entry.phases,
            progress,
            awaited,
            missing,
        }
    }
}
