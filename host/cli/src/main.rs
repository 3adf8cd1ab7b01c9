//! The `reprise` binary.

fn main() -> std::process::ExitCode {
    reprise::main()
}
