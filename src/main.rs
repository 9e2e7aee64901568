//! The binary: an exit code.

fn main() -> std::process::ExitCode {
    portolan::cli::main()
}
