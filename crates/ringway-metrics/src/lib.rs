//! Counters, histograms and their text exposition.
