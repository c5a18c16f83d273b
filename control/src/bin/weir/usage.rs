//! Arguments that are none of `weir`, as JSON.

use clap::{
    CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};
use weir_control::fault::Fault;

use super::Arguments;

/// What is wrong with the arguments, and what could stand there.
pub(crate) fn fault(error: &clap::Error) -> Fault {
    let text = error.to_string();
    let said = match error.kind() {
        // Its text is the help.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing",
        _ => text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: "),
    };
    let words: Vec<&str> = said.split_whitespace().collect();
    Fault::invalid("USAGE", words.join(" ")).fix(fix(error, &text))
}

/// The values or words that there are, else how the command is written.
fn fix(error: &clap::Error, text: &str) -> String {
    use ContextKind::{SuggestedArg, SuggestedSubcommand, SuggestedValue, ValidValue};
    let words = |kind| match error.get(kind) {
        Some(ContextValue::Strings(words)) => words.join(", "),
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    let values = words(ValidValue);
    if !values.is_empty() {
        return format!("give one of {values}");
    }
    let alike = [SuggestedSubcommand, SuggestedArg, SuggestedValue].map(words);
    if let Some(alike) = alike.iter().find(|alike| !alike.is_empty()) {
        return format!("did you mean {alike}?");
    }
    if error.kind() == ErrorKind::ValueValidation {
        return format!("write another {}", words(ContextKind::InvalidArg));
    }
    let usage = text.lines().find_map(|line| line.trim_start().strip_prefix("Usage: "));
    let Some(usage) = usage else { return "see weir --help".to_owned() };
    match error.kind() {
        ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            format!("write {usage}: {}", commands(usage).join(", "))
        }
        _ => format!("write {usage}"),
    }
}

/// The commands that may stand behind the words with which a usage begins.
fn commands(usage: &str) -> Vec<String> {
    let mut command = Arguments::command();
    for word in usage.split_whitespace().skip(1) {
        let Some(below) = command.find_subcommand(word) else { break };
        command = below.clone();
    }
    let names = command.get_subcommands().map(|command| command.get_name().to_owned());
    names.filter(|name| name != "help").collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn what_could_stand_there_is_named() {
        for (line, message, fix) in [
            ("weir instances", "unrecognized subcommand", ", instance?"),
            ("weir zzz", "unrecognized subcommand", "nf, flow, drops"),
            (
                "weir nf zzz",
                "unrecognized subcommand",
                "write weir nf [OPTIONS] <COMMAND>: list, processes",
            ),
            ("weir scale auto maybe", "invalid value", "give one of on, off"),
            ("weir nf list --nonzer", "unexpected argument", "did you mean --nonzero?"),
            ("weir move --from a", "not provided: --to", "write weir move"),
            ("weir stats --count x", "invalid digit", "write another --count <COUNT>"),
            ("weir nf", "a command is missing", ": list, processes"),
            ("weir", "a command is missing", "status, port, "),
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).map(drop).unwrap_err();
            let fault = fault(&error);
            assert!(fault.message.contains(message), "{line}: {fault:?}");
            assert!(fault.fix.contains(fix), "{line}: {fault:?}");
        }
    }
}
