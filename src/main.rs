//! The binary: an exit code, and the allocator that every thread uses.

/// The static C library's own takes a lock per allocation; a worker's requests allocate all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    portolan::cli::main()
}
