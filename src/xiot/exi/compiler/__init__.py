# SPDX-License-Identifier: Apache-2.0
"""The grammar compiler: XML Schema files in, the codec's tables out. Needs lxml and nothing else of xiot: setup.py runs it by path."""
