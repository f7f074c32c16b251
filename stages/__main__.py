"""`python -m stages STAGE`. Only the call is here, so that dvc.yaml need not list this file."""

from stages import main

if __name__ == "__main__":
    main()
