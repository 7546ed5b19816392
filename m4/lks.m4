dnl LKS_CHECK_CFLAGS(VARIABLE, FLAGS)
dnl Appends to VARIABLE each of FLAGS that the compiler takes.
AC_DEFUN([LKS_CHECK_CFLAGS], [
    $1=
    for lks_flag in $2; do
        AC_MSG_CHECKING([whether $CC takes $lks_flag])
        lks_save_CFLAGS=$CFLAGS
        CFLAGS="$CFLAGS -Werror $lks_flag"
        AC_COMPILE_IFELSE([AC_LANG_SOURCE([[int main(void) { return 0; }]])],
            [AC_MSG_RESULT([yes])
             $1="${$1:+$$1 }$lks_flag"],
            [AC_MSG_RESULT([no])])
        CFLAGS=$lks_save_CFLAGS
    done
])

dnl LKS_CHECK_LDFLAGS(VARIABLE, FLAG, [COMMANDS-BEFORE])
dnl Sets VARIABLE to FLAG if programs link with it, else to nothing.
AC_DEFUN([LKS_CHECK_LDFLAGS], [
    AC_MSG_CHECKING([whether programs link with $2])
    $1=
    lks_save_LDFLAGS=$LDFLAGS
    LDFLAGS="$LDFLAGS $2"
    $3
    AC_LINK_IFELSE([AC_LANG_SOURCE([[int main(void) { return 0; }]])],
        [AC_MSG_RESULT([yes])
         $1="$2"],
        [AC_MSG_RESULT([no])])
    LDFLAGS=$lks_save_LDFLAGS
])
