//! One thread, one ring, one share of the traffic.
