"""python -m livos_cli"""

from livos_cli.cli import main

if __name__ == "__main__":
    main()
