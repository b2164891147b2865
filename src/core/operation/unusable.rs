//! Members of an operation that are present but unusable.

/// Members that can be unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Member {
    /// `projectId`.
    ProjectId,
    /// `integrationId`.
    IntegrationId,
    /// `configId`.
    ConfigId,
    /// `installationId`, also of `metadata.progress`.
    InstallationId,
    /// `actionType`.
    ActionType,
    /// `result`.
    Result,
    /// `createTime`.
    CreateTime,
    /// `metadata`.
    Metadata,
    /// `metadata.objects`.
    Objects,
    /// `metadata.retry`.
    Retry,
    /// `metadata.retry.attempts`.
    Attempts,
    /// `metadata.retry.lastAttempt`.
    LastAttempt,
    /// `metadata.retry.lastNotified`.
    LastNotified,
    /// `metadata.progress`.
    Progress,
    /// `metadata.progress.objectName`.
    ObjectName,
    /// `metadata.progress.operationId`.
    OperationId,
    /// `metadata.progress.recordsProcessed`.
    RecordsProcessed,
    /// `metadata.progress.recordsEstimatedTotal`.
    RecordsEstimatedTotal,
}

impl Member {
    /// Every member.
    pub const ALL: [Self; 18] = [
        Self::ProjectId,
        Self::IntegrationId,
        Self::ConfigId,
        Self::InstallationId,
        Self::ActionType,
        Self::Result,
        Self::CreateTime,
        Self::Metadata,
        Self::Objects,
        Self::Retry,
        Self::Attempts,
        Self::LastAttempt,
        Self::LastNotified,
        Self::Progress,
        Self::ObjectName,
        Self::OperationId,
        Self::RecordsProcessed,
        Self::RecordsEstimatedTotal,
    ];

    /// The member's name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProjectId => "projectId",
            Self::IntegrationId => "integrationId",
            Self::ConfigId => "configId",
            Self::InstallationId => "installationId",
            Self::ActionType => "actionType",
            Self::Result => "result",
            Self::CreateTime => "createTime",
            Self::Metadata => "metadata",
            Self::Objects => "objects",
            Self::Retry => "retry",
            Self::Attempts => "attempts",
            Self::LastAttempt => "lastAttempt",
            Self::LastNotified => "lastNotified",
            Self::Progress => "progress",
            Self::ObjectName => "objectName",
            Self::OperationId => "operationId",
            Self::RecordsProcessed => "recordsProcessed",
            Self::RecordsEstimatedTotal => "recordsEstimatedTotal",
        }
    }
}

/// The unusable members of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnusableMembers(u32);

impl UnusableMembers {
    /// Adds a member.
    pub fn insert(&mut self, member: Member) {
        self.0 |= 1 << member as u8;
    }

    /// Whether every member can be used.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members.
    pub fn members(self) -> impl Iterator<Item = Member> {
        Member::ALL
            .into_iter()
            .filter(move |member| self.0 & (1 << *member as u8) != 0)
    }
}
