//! The guest's half of a port's script, on a real port: reads operations from standard input, one a
//! line, and prints one observation for each. `nap MILLIS` lets what the host did arrive.
//!
//! The VM tests run it in QEMU and hold what it prints against the model of the port.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::Duration;

#[path = "../doubles/mod.rs"]
mod doubles;

use infiniservice::internals::port::Target;

use doubles::port::script::{GuestEnd, Op};

/// A port that takes nothing for so long is full, also in an emulated machine.
const PATIENCE: Duration = Duration::from_millis(250);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut guest = GuestEnd::new(Target::default(), PATIENCE);
    // Nothing else runs here, so it may wait for a line where it stands.
    for line in stdin().lock().lines() {
        let line = line?;
        let told = match line.strip_prefix("nap ") {
            Some(millis) => {
                tokio::time::sleep(Duration::from_millis(millis.parse()?)).await;
                line
            }
            None => guest.perform(line.parse::<Op>()?).await,
        };
        writeln!(stdout(), "{told}")?;
    }
    Ok(())
}
