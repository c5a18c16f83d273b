//! Running a command to its end, with its output in the error.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started, or ends with another status than 0; the error carries its output.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {}", shown(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}{}", shown(command), output.status, stdout, stderr.trim_end());
    }
    Ok(stdout)
}

/// Runs `ip` with arguments separated by blanks, as one types them.
///
/// # Errors
/// As [`run`].
pub fn ip(arguments: &str) -> Result<String> {
    run(Command::new("ip").args(arguments.split_whitespace()))
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_reported_with_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo told; echo why >&2; exit 3"]));
        let text = error.expect_err("it exits with 3").to_string();
        assert!(text.contains("told") && text.contains("why") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_command_that_does_not_exist_is_reported_by_name() {
        let error = run(&mut Command::new("/nonexistent/weir")).expect_err("no such file");
        assert!(error.to_string().contains("/nonexistent/weir"));
    }
}
