//! Robots in images, in real containers, held against `rcc run` on this machine.

mod catalogs;
mod dockerfile;
mod docs;
mod engines;
mod modes;
mod sources;
mod split;
mod workshop;

use workshop::Workshop;
