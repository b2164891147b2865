//! One project as its watches see it: reachable or not, credentials good or not.
