//! Turns the crank: from what providers say to a table in force and the one [`view::View`] that everything reports from.

pub mod view;
