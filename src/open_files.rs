//! The limit of open files, which includes connections.

use crate::error::chain;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the hard limit, unless the system refuses that.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(
            error = chain(&error),
            "limit of open files not raised; fewer connections are accepted"
        );
    }
}

/// The current limit.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        raise_limit();
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(limit(), most);
    }
}
