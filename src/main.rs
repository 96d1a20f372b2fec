//! The program: everything is in the library.

use std::process::ExitCode;

/// A request makes a dozen short-lived allocations, and glibc's arenas give memory back to the system in between.
/// docs/PERFORMANCE.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
