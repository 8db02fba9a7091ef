# SPDX-License-Identifier: Apache-2.0
"""The command ``xiot``: one module for each subcommand, loaded when it is used (`xiot.cli.main` has the table)."""
