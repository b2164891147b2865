//! Percent, rate, estimated end and stall.
