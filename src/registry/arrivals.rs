//! A limit for servers that send without end what belongs to no answer and to no body: provisional answers (RFC 9110, section
//! 15.2), and trailers after the last chunk (RFC 9112, section 7.1.2). ureq reads these for as long as they come.

use std::cell::Cell;
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How often bytes may arrive, of which at most 128 KiB at once, before there is a head or any byte of a body.
const MOST: u32 = 1000;

thread_local! {
    /// How often bytes have arrived since this thread began to wait for something.
    static ARRIVALS: Cell<u32> = const { Cell::new(0) };
}

/// Begins to count: this thread waits for a head, or for a byte of a body.
pub(super) fn count() {
    ARRIVALS.set(0);
}

/// Makes connections that fail when bytes arrived too often for one head or one byte of a body.
#[derive(Debug)]
pub(super) struct CountArrivals;

impl<T: Transport> Connector<T> for CountArrivals {
    type Out = Counted<T>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<T>) -> Result<Option<Counted<T>>, Error> {
        Ok(chained.map(Counted))
    }
}

/// A connection whose arrivals are counted.
#[derive(Debug)]
pub(super) struct Counted<T>(T);

impl<T: Transport> Transport for Counted<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.0.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.0.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let arrivals = ARRIVALS.get() + 1;
        if arrivals > MOST {
            return Err(Error::Other("sends without end what is no part of an answer".into()));
        }
        ARRIVALS.set(arrivals);
        self.0.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.0.is_open()
    }

    fn is_tls(&self) -> bool {
        self.0.is_tls()
    }
}
